"""Mean of the largest coefficients."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.mean_max_coefficient import (
    _mean_max_coefficient_compute,
    _mean_max_coefficient_update,
)


class MeanMaxCoefficient(Metric):
    """Mean of the samples' largest coefficients; the adaptive penalty is a tenth of it (arXiv 2310.07837, section 3).

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR, and raises ValueError for anything else. An
    all-zero row counts as 0. `compute` returns a 0-dim float64 >= 0 in the units of the codes; NaN without rows.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = MeanMaxCoefficient()
        >>> metric.update(codes=torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> metric.compute()
        tensor(1.5000, dtype=torch.float64)
    """

    is_differentiable: bool = True
    full_state_update: bool = False

    maxima: Tensor
    rows: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("maxima", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add the rows of a batch."""
        maxima, rows = _mean_max_coefficient_update(codes)
        self.maxima = self.maxima + maxima
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """Mean of the row maxima so far."""
        return _mean_max_coefficient_compute(self.maxima, self.rows)
