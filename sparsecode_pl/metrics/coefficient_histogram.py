"""How large the coefficients are, in units of the penalty."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.coefficient_histogram import (
    _check_bins,
    _coefficient_histogram_edges,
    _coefficient_histogram_update,
)


class CoefficientHistogram(Metric):
    """Histogram of the non-zero coefficients divided by lam, in bins evenly spaced on a logarithmic axis.

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR, and `lam`, the penalty > 0 of this batch. It raises
    ValueError for anything else. `compute` returns counts, (num_bins,) int64; values beyond the
    edges count in the end bins.

    Args:
        num_bins: bins, >= 1.
        low: lower edge of the first bin, > 0, in units of lam.
        high: upper edge of the last bin, > low, in units of lam.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: the bins are out of range.

    Example:
        >>> import torch
        >>> metric = CoefficientHistogram(num_bins=3, low=1, high=1e3)
        >>> metric.update(codes=torch.tensor([[0.0, 2.0, 0.5], [30.0, 0.0, 0.0]]), lam=0.1)
        >>> metric.compute()
        tensor([1, 1, 1])
        >>> metric.edges
        tensor([   1.,   10.,  100., 1000.], dtype=torch.float64)
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    counts: Tensor

    def __init__(self, num_bins: int = 60, low: float = 1e-3, high: float = 1e3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_bins(num_bins, low, high)
        self.num_bins = num_bins
        self.low = low
        self.high = high
        self.add_state("counts", torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def edges(self) -> Tensor:
        """Edges of the bins in units of lam, (num_bins + 1,) float64."""
        return _coefficient_histogram_edges(self.num_bins, self.low, self.high, self.device)

    def update(self, codes: Tensor, lam: float | Tensor) -> None:
        """Add the coefficients of a batch."""
        self.counts = self.counts + _coefficient_histogram_update(codes, lam, self.num_bins, self.low, self.high)

    def compute(self) -> Tensor:
        """Counts over all rows so far."""
        return self.counts
