"""The sums that the scores are ratios of, for each bucket of rows."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.score_sums import SUM_COLUMNS, _score_sums_compute, _score_sums_update
from sparsecode_pl.utilities.arguments import check_arguments


class ScoreSums(Metric):
    """Sums over the rows of each bucket, from which `functional.scores_of_sums` computes the scores.

    Rows that belong together, such as those of a document, are in one bucket. Intervals come from resampling the
    buckets, without another pass over the rows. The mean of all rows, about which squared distances are taken, is left
    fixed by that; see `functional.score_sums`, also for the columns.

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR; `residual`, activations minus their reconstruction,
    and `x`, the activations, centred, both (n, d_model); `lam`, the penalty > 0 of this batch; `groups`, the bucket of
    each row, (n,) int64; and maybe `bound`, a lower bound on each sample's objective, (n,). It raises ValueError for
    anything else. `compute` returns (num_buckets, 9) float64; zeros if there were no rows.

    Args:
        num_buckets: number of buckets, >= 1.
        d_model: width d of the activations, >= 1.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: an argument is below 1.

    Example:
        >>> from sparsecode_pl.metrics.functional import scores_of_sums
        >>> metric = ScoreSums(num_buckets=2, d_model=4)
        >>> codes, x = torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.zeros(2, 4)
        >>> metric.update(codes=codes, residual=x, x=x, lam=0.5, groups=torch.tensor([0, 1]))
        >>> metric.update(codes=codes, residual=x, x=x, lam=0.5, groups=torch.tensor([1, 1]))
        >>> scores_of_sums(metric.compute())["S1"]  # 3 / 2 and (3 + 3 + 3) / (3 + 2 + 3)
        tensor([1.5000, 1.1250], dtype=torch.float64)
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    sums: Tensor
    sum_x: Tensor

    def __init__(self, num_buckets: int, d_model: int, **kwargs: Any) -> None:
        check_arguments(ScoreSums.__init__, locals())
        super().__init__(**kwargs)
        for name, value in (("num_buckets", num_buckets), ("d_model", d_model)):
            if value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        self.num_buckets = num_buckets
        self.add_state("sums", torch.zeros(num_buckets, len(SUM_COLUMNS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_x", torch.zeros(d_model, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        codes: Tensor,
        residual: Tensor,
        x: Tensor,
        lam: float | Tensor,
        groups: Tensor | None,
        bound: Tensor | None = None,
    ) -> None:
        """Add the rows of a batch."""
        if groups is None:
            raise ValueError("groups is None, but sums are taken by bucket: give the bucket of each row, (n,) int64")
        if x.shape[1:] != self.sum_x.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but d_model is {len(self.sum_x)}: give (n, {len(self.sum_x)}), or "
                "construct ScoreSums with the width of x"
            )
        sums, sum_x = _score_sums_update(codes, residual, x, lam, groups, bound, self.num_buckets)
        self.sums = self.sums + sums
        self.sum_x = self.sum_x + sum_x

    def compute(self) -> Tensor:
        """Sums over all rows so far."""
        return _score_sums_compute(self.sums, self.sum_x)
