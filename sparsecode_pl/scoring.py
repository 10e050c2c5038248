"""One pass over rows that fills any metrics, at any penalties, for any coders.

An `Evaluation` says which metrics to compute and what each receives from a batch. `score` passes over rows for any
number of evaluations at once. A `Scorer` is the same pass, batch by batch, for loops that belong to somebody else, such
as Lightning's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding.checks import check_penalty
from sparsecode_pl.metrics import (
    AtomActivity,
    AverageCoefficientNorm,
    ExplainedVariance,
    MeanMaxCoefficient,
    NonZeroEntries,
    NormalizedLoss,
    ScoreSums,
    SparseCodingLoss,
)
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

#: Entry points of this group name the evaluations of other packages.
EVALUATIONS = "sparsecode_pl.evaluations"

#: The scores of a decomposition (paper, section 3), by the names used in logs and results.
SCORES: dict[str, type[Metric]] = {
    "S1": AverageCoefficientNorm,
    "L_norm": NormalizedLoss,
    "N0": NonZeroEntries,
    "L": SparseCodingLoss,
    "explained_variance": ExplainedVariance,
}

#: Name of the sums by bucket, from which the scores get intervals.
SUMS = "sums"

# Rows that are coded at a time where they come as one tensor.
_BLOCK = 4096


class Coded(NamedTuple):
    """A batch of rows and its codes at one penalty, in the units of the codes.

    Attributes:
        x: activations, centred and scaled, (n, d).
        codes: sparse CSR, (n, m).
        residual: x minus its reconstruction, (n, d).
        lam: the penalty.
    """

    x: Tensor
    codes: Tensor
    residual: Tensor
    lam: float


class CodedBatch:
    """A batch of rows, coded when an evaluation first asks for it, once for each penalty.

    Args:
        codec: what codes the rows.
        rows: activations as they come, (n, d).
        groups: the bucket of each row, (n,) int64, where scores get intervals.

    Attributes:
        codec: what codes the rows.
        rows: activations as they come, (n, d).
        groups: the bucket of each row, (n,) int64; None where scores get no intervals.
    """

    def __init__(self, codec: Codec, rows: Tensor, groups: Tensor | None = None) -> None:
        self.codec = codec
        self.rows = rows
        self.groups = groups
        self._found: dict[float, Coded] = {}

    def at(self, lam: float | None = None) -> Coded:
        """The batch coded at a penalty; at that of the codec if None."""
        lam = self.codec.lam if lam is None else lam
        if lam not in self._found:
            x, codes = self.codec.standardise(self.rows), self.codec.encode(self.rows, lam)
            self._found[lam] = Coded(x, codes, self.codec.residual(self.rows, codes), lam)
        return self._found[lam]


class Evaluation(ABC):
    """A measurement of how a codec codes rows. A plugin can bring its own.

    Attributes:
        name: what the command line and messages call it; the class's name by default.

    Example:
        >>> from torchmetrics import MeanMetric
        >>> from sparsecode_pl import Dictionary
        >>> class LargestShare(Evaluation):
        ...     def metrics(self, codec):
        ...         return {"largest_share": MeanMetric()}
        ...     def update(self, metrics, batch):
        ...         codes = batch.at().codes.to_dense()
        ...         metrics["largest_share"].update(codes.amax(1) / codes.sum(1))
        >>> score(Dictionary(torch.eye(2), lam=1.0), torch.tensor([[3.5, 1.5]]), [LargestShare()])
        {'largest_share': tensor(0.7500)}
    """

    @property
    def name(self) -> str:
        """What the command line and messages call it."""
        return type(self).__name__

    @abstractmethod
    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """New, empty metrics, by the names that their values get in logs and results.

        Metrics rather than numbers, so that several processes can add up what each has seen. Only values of a single
        number become part of a record.
        """

    @abstractmethod
    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Add a batch to the metrics that `metrics` has made."""

    def finish(self, scores: Mapping[str, Tensor]) -> None:  # noqa: B027  # most have nothing to add
        """Look at the values once all rows are in, for instance to warn."""


class Scores(Evaluation):
    """The scores of the paper's section 3: S1, L_norm, N0, L and explained variance.

    With buckets, the sums that they are ratios of are given for each bucket too, as `sums`, (buckets, 9). Intervals of
    the scores come from resampling these. See `ScoreSums`.

    Args:
        lam: penalty to score at; the codec's if None.
        buckets: number of the buckets that rows come in, see `CodedBatch.groups`; None for no sums.
        prefix: of the names, so that one pass can score at several penalties.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, lam: float | None = None, buckets: int | None = None, prefix: str = "") -> None:
        check_arguments(Scores.__init__, {"buckets": buckets, "prefix": prefix})
        if buckets is not None and buckets < 1:
            raise ValueError(f"buckets is {buckets}: give at least 1, or None for no sums")
        self.lam = None if lam is None else check_penalty(lam)
        self.buckets = buckets
        self.prefix = prefix

    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """An empty metric for each of `SCORES`, and for the sums."""
        return {**new_scores(self.prefix), **new_sums(codec, self.buckets, self.prefix)}

    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Add a batch, which has `groups` if there are buckets."""
        update_scores(metrics, batch.at(self.lam), batch.groups)


def new_scores(prefix: str = "") -> dict[str, Metric]:
    """An empty metric for each of `SCORES`, with something put before its name."""
    return {prefix + name: metric() for name, metric in SCORES.items()}


def new_sums(codec: Codec, buckets: int | None, prefix: str = "") -> dict[str, Metric]:
    """An empty metric for the sums of the scores by bucket, `SUMS`; none without buckets."""
    return {} if buckets is None else {prefix + SUMS: ScoreSums(buckets, codec.d_model)}


def update_scores(
    metrics: Mapping[str, Metric], coded: Coded, groups: Tensor | None = None, bound: Tensor | None = None
) -> None:
    """Add a coded batch to each metric, which takes what it needs of x, codes, residual, lam, groups and bound."""
    collection = MetricCollection(list(metrics.values()), compute_groups=False)
    collection.update(**coded._asdict(), groups=groups, bound=bound)


class AtomUse(Evaluation):
    """How often each atom is used, as `atom_activity`, (m,): the share of the rows that use it.

    Args:
        lam: penalty to code at; the codec's if None.

    Raises:
        ValueError: the penalty is not a finite number above 0.
    """

    def __init__(self, lam: float | None = None) -> None:
        self.lam = None if lam is None else check_penalty(lam)

    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """An empty `AtomActivity`."""
        return {"atom_activity": AtomActivity(codec.num_atoms)}

    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Add a batch."""
        metrics["atom_activity"].update(codes=batch.at(self.lam).codes)


class LargestCoefficient(Evaluation):
    """The mean over the rows of the largest coefficient, as `mean_max`, which the adaptive penalty follows.

    Args:
        lam: penalty to code at; the codec's if None.

    Raises:
        ValueError: the penalty is not a finite number above 0.
    """

    def __init__(self, lam: float | None = None) -> None:
        self.lam = None if lam is None else check_penalty(lam)

    def metrics(self, codec: Codec) -> dict[str, Metric]:
        """An empty `MeanMaxCoefficient`."""
        return {"mean_max": MeanMaxCoefficient()}

    def update(self, metrics: Mapping[str, Metric], batch: CodedBatch) -> None:
        """Add a batch."""
        metrics["mean_max"].update(codes=batch.at(self.lam).codes)


class Scorer:
    """A pass over rows, one batch at a time.

    Args:
        codec: what codes the rows.
        evaluations: the evaluations to compute.
        sync: whether the values are those of the rows of all processes.

    Attributes:
        metrics: all metrics by name.

    Raises:
        ValueError: two evaluations give their values the same name, or one is no evaluation.
    """

    def __init__(self, codec: Codec, evaluations: Sequence[Evaluation], sync: bool = True) -> None:
        self.codec = codec.bind()
        self.metrics: dict[str, Metric] = {}
        self._parts: list[tuple[Evaluation, dict[str, Metric]]] = []
        for evaluation in evaluations:
            if not isinstance(evaluation, Evaluation):
                raise ValueError(f"evaluations has {evaluation!r}: give objects of subclasses of Evaluation")
            metrics = {name: metric.to(codec.atoms.device) for name, metric in evaluation.metrics(self.codec).items()}
            if twice := self.metrics.keys() & metrics.keys():
                raise ValueError(
                    f"evaluation {evaluation.name} gives {', '.join(sorted(twice))}, as another one does: leave "
                    "one of them out"
                )
            if not sync:
                for metric in metrics.values():
                    metric.distributed_available_fn = _alone
            self.metrics |= metrics
            self._parts.append((evaluation, metrics))

    @torch.no_grad()
    def update(self, rows: Tensor, groups: Tensor | None = None) -> CodedBatch:
        """Add a batch of activations as they come, (n, d), and the buckets of the rows, (n,), if there are any."""
        check_tensor(rows, "rows")
        batch = CodedBatch(self.codec, rows, groups)
        for evaluation, metrics in self._parts:
            evaluation.update(metrics, batch)
        return batch

    def compute(self) -> dict[str, Tensor]:
        """The values over all rows so far, by name. With `sync`, every process must call it."""
        values = {name: metric.compute() for name, metric in self.metrics.items()}
        for evaluation, metrics in self._parts:
            evaluation.finish({name: values[name] for name in metrics})
        return values


def _alone() -> bool:
    """Tell torchmetrics that there are no other processes."""
    return False


def score(
    codec: Codec, rows: Tensor | Iterable[Tensor], evaluations: Sequence[Evaluation] | None = None, *, sync: bool = True
) -> dict[str, Tensor]:
    """Score how a codec codes rows, in one pass over them.

    Args:
        codec: a dictionary, or anything else that encodes.
        rows: activations as they come, (n, d), or batches of them, which are moved to the device of the atoms.
        evaluations: the evaluations to compute; the scores of the paper if None.
        sync: where `torch.distributed` runs, give the values over the rows of all processes. Each of them must then
            call this with its own rows.

    Returns:
        Values by name, such as "S1".

    Raises:
        ValueError: two evaluations give their values the same name, or an argument is of another kind.

    Example:
        >>> from sparsecode_pl import Dictionary
        >>> dictionary, x = Dictionary(torch.eye(2), lam=1.0), torch.tensor([[3.5, 1.5]])
        >>> {name: round(float(value), 3) for name, value in score(dictionary, x).items()}["S1"]  # codes 3 and 1
        1.333
        >>> values = score(dictionary, x, [Scores(lam=0.5), AtomUse()])
        >>> round(float(values["S1"]), 3), values["atom_activity"].tolist()  # codes 3.25 and 1.25
        (1.385, [1.0, 1.0])
    """
    check_arguments(score, locals())
    scorer = Scorer(codec, [Scores()] if evaluations is None else evaluations, sync)
    if isinstance(rows, Tensor):
        check_tensor(rows, "rows")
        if rows.ndim != 2:
            raise ValueError(f"rows have shape {tuple(rows.shape)}: give (n, {codec.d_model})")
    for batch in rows.split(_BLOCK) if isinstance(rows, Tensor) else rows:
        check_tensor(batch, "rows")
        scorer.update(batch.to(codec.atoms.device))
    return scorer.compute()
