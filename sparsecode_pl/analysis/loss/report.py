"""What a model loses in each arm, with intervals, and which share of it is recovered."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsecode_pl.analysis.loss.sums import LossSums, losses
from sparsecode_pl.utilities.bootstrap import LEVEL, Array, Interval, filled, interval
from sparsecode_pl.utilities.plain import to_json

#: The arm in which nothing is replaced.
CLEAN = "clean"
#: The arms that loss recovered is held against, and what it is then called.
ABLATIONS = {"mean": "recovered", "zero": "zero_recovered"}

# An ablation that costs less than this share of the loss, or of 1, costs nothing but rounding.
_ROUNDING = 1e-6


def measured_by(sums: LossSums) -> dict[str, dict[str, Array]]:
    """The figures of each arm, by name, for each bucket, (buckets,).

    These are `cross_entropy` and `kl`, in nats per token, of a causal model, or `cosine` of an encoder. The share of
    the loss recovered, (ablated - replaced) / (ablated - clean), is `recovered` against the arm "mean" and
    `zero_recovered` against the arm "zero", where there are such; loss is cross-entropy, or 1 minus the cosine. It is
    NaN where the ablation costs nothing.
    """
    means = sums.means()
    loss = {arm: losses(each) for arm, each in means.items()}
    clean = loss[CLEAN]
    for ablation, name in ABLATIONS.items():
        if ablation in loss:
            cost = loss[ablation] - clean
            cost = np.where(cost > _ROUNDING * np.maximum(1, np.abs(clean)), cost, np.nan)
            for arm, figures in means.items():
                figures[name] = (loss[ablation] - loss[arm]) / cost
    return means


@dataclass(frozen=True)
class LossReport:
    """What a model loses when activations of a layer are replaced.

    Attributes:
        sums: what the figures come from.
        documents: number of documents.
        heldout: whether the dictionary was trained on none of them.
        arms: of each arm, its figures by name, see `measured_by`. Loss recovered is NaN where it is not known whether
            the ablation costs anything: it costs nothing, or nothing in more than 5 % of the replicates.
        intervals: their 95 % intervals, by the bootstrap over documents with the same draws for all arms.
        nonzero: N0 of the arms that have codes, on a sample of the activations; of principal components, their number.
    """

    sums: LossSums
    documents: int
    heldout: bool
    arms: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    nonzero: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, sums: LossSums, documents: int, heldout: bool, seed: int = 0) -> "LossReport":
        """The figures that sums tell of, with intervals."""
        buckets = int(filled(sums.tokens[:, None]).sum())
        found, drawn = measured_by(sums.total), measured_by(sums.resampled(seed))
        arms: dict[str, dict[str, float]] = {}
        intervals: dict[str, dict[str, Interval]] = {}
        for arm, figures in found.items():
            intervals[arm] = {name: interval(each, buckets) for name, each in drawn[arm].items()}
            arms[arm] = {
                name: math.nan if name in ABLATIONS.values() and unsure(drawn[arm][name], buckets) else float(value[0])
                for name, value in figures.items()
            }
        return cls(sums, documents, heldout, arms, intervals)

    @property
    def kind(self) -> str:
        """Of the model: "causal" or "encoder"."""
        return self.sums.kind

    @property
    def tokens(self) -> int:
        """Number of positions that were judged."""
        return int(self.sums.tokens.sum())

    def plain(self) -> dict[str, Any]:
        """The report as JSON can hold it; NaN becomes null."""
        content: dict[str, Any] = to_json(
            {
                "kind": self.kind,
                "documents": self.documents,
                "tokens": self.tokens,
                "heldout": self.heldout,
                "arms": self.arms,
                "intervals": self.intervals,
                "N0": self.nonzero,
            }
        )
        return content


def unsure(replicates: Array, buckets: int) -> bool:
    """Whether a share of the loss recovered is not to be told, for too many replicates have none."""
    return buckets > 1 and float(np.isfinite(replicates).mean()) < LEVEL
