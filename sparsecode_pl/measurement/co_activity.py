"""A warning of features that fire together, which a sparse dictionary may have merged."""

from collections.abc import Mapping

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from sparsecode_pl.codec import Codec
from sparsecode_pl.metrics import SampledCodes
from sparsecode_pl.metrics.functional import co_activity_lift, s1_over_independent
from sparsecode_pl.scoring import CodedBatch, Evaluation

# Independent features have 1.0 to 1.1, features in groups and trees 2.5 to 5.4, with much scatter (docs/truth.md).
_LIFT = 2.0


class CoActivity(Evaluation):
    """Whether atoms are active together, on a random sample of 4,096 rows of each kind.

    - `co_activity_lift`: how many times as strongly as by chance two atoms that have met in some rows are active
      together in others. It is 1 for independent features, also where their directions are alike. Well above 1, and
      above that of the controls, features form groups or trees. A dictionary tends to merge those that fire together,
      because the objective is lower then, and its S1 is below that of the features.
    - `S1_over_independent`: S1 over that of the same coefficients if the atoms were independent of each other. It is
      above 1 with groups and trees, but also with heavy tails.
    """

    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """Empty samples."""
        return {
            "co_activity_lift": SampledCodes(co_activity_lift, codec.num_atoms),
            "S1_over_independent": SampledCodes(s1_over_independent, codec.num_atoms),
        }

    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Add a batch."""
        for metric in metrics.values():
            metric.update(codes=batch.at().codes)

    def finish(self, scores: Mapping[str, Tensor]) -> None:
        """Warn if atoms are active together much more than by chance."""
        lift = float(scores["co_activity_lift"])
        if lift > _LIFT:
            rank_zero_warn(
                f"co_activity_lift is {lift:.2g}: atoms are active together so many times as strongly as by chance. "
                "Features that imply each other may be merged into one atom: read S1 as the length of a description, "
                "not as a number of features, and compare the lift with that of the controls"
            )
