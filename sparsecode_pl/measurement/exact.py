"""Scores of the exact codes, which the paper defines them by, beside those of a dictionary's coder."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import lasso_encode, reconstruct
from sparsecode_pl.metrics import CodingGap
from sparsecode_pl.metrics.functional import lower_bound
from sparsecode_pl.scoring import Coded, CodedBatch, Evaluation, new_scores, new_sums, update_scores
from sparsecode_pl.utilities.arguments import check_arguments

#: Relative duality gap of the exact codes. Greedy codes are some per cent from the minimum, so this is far below.
TOLERANCE = 1e-4

_PREFIX, _GAP, _BOUND = "exact_", "coding_gap", "exact_duality_gap"


class ExactCodes(Evaluation):
    """Scores of the exact codes at the codec's penalty, and how far the codec's own codes are from them.

    Each of the paper's scores is given as `exact_S1` and so on (section 2), the relative excess of the objective of the
    codec's codes as `coding_gap` (see `CodingGap`), and what may be missing to the minimum itself as
    `exact_duality_gap`. With buckets, the sums of the exact scores are given for each bucket too, as `exact_sums`; see
    `Scores`.

    Args:
        buckets: number of the buckets that rows come in, see `CodedBatch.groups`; None for no sums.
    """

    def __init__(self, buckets: int | None = None) -> None:
        check_arguments(ExactCodes.__init__, locals())
        self.buckets = buckets

    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """Empty metrics."""
        sums = new_sums(codec, self.buckets, _PREFIX)
        return {**new_scores(_PREFIX), **sums, _GAP: CodingGap(), _BOUND: CodingGap()}

    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Solve a batch exactly, beginning at its codes."""
        x, codes, residual, lam = batch.at()
        atoms = batch.codec.atoms.detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some rows of a batch may be less exact: `finish` looks at all together
            exact, gap, _ = lasso_encode(x, atoms, lam, tol=TOLERANCE, warm_start=codes, gram=_gram(batch.codec))
        exact_residual = x - reconstruct(exact, atoms)
        bound = lower_bound(exact, exact_residual, lam, gap)
        scores = {name: metric for name, metric in metrics.items() if name.startswith(_PREFIX) and name != _BOUND}
        update_scores(scores, Coded(x, exact, exact_residual, lam), batch.groups, bound)
        metrics[_GAP].update(codes=codes, residual=residual, lam=lam, bound=bound)
        metrics[_BOUND].update(codes=exact, residual=exact_residual, lam=lam, bound=bound)

    def finish(self, scores: Mapping[str, Tensor]) -> None:
        """Warn if the codes are less exact than they should be."""
        lacking = float(scores[_BOUND])
        if lacking > TOLERANCE:
            rank_zero_warn(
                f"the objective of the exact codes may be {lacking:.1e} above its minimum, not {TOLERANCE:g}, and "
                "coding_gap too large by so much: give a larger lam, or a smaller explained_variance"
            )


def _gram(codec: Codec) -> torch.Tensor | None:
    """The Gram matrix that the codec's coder has formed, if it has one."""
    gram: torch.Tensor | None = getattr(getattr(codec, "coder", None), "gram", None)
    return gram
