"""Number of non-zero coefficients, N0."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.nonzero_entries import _nonzero_entries_compute, _nonzero_entries_update


class NonZeroEntries(Metric):
    """N0, the mean number of non-zero coefficients per sample (arXiv 2310.07837, section 3).

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR, and raises ValueError for anything else. `compute`
    returns a 0-dim float64 in [0, m]; 0 if all codes are zero, NaN if there were no rows.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = NonZeroEntries()
        >>> metric.update(codes=torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))
        >>> metric.compute()
        tensor(1.5000, dtype=torch.float64)
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    nonzeros: Tensor
    rows: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("nonzeros", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add the rows of a batch."""
        nonzeros, rows = _nonzero_entries_update(codes)
        self.nonzeros = self.nonzeros + nonzeros
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """N0 of all rows so far."""
        return _nonzero_entries_compute(self.nonzeros, self.rows)
