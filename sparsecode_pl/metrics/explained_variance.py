"""Share of the variance about the mean that the reconstruction explains."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.explained_variance import _explained_variance_compute, _explained_variance_update


class ExplainedVariance(Metric):
    r"""Explained variance about the mean of all scored rows.

    .. math:: 1 - \frac{\sum_j \lVert x_j - \hat{x}_j \rVert_2^2}{\sum_j \lVert x_j - \bar{x} \rVert_2^2}

    `update` takes `residual`, activations minus their reconstruction, and `x`, the activations, both (n, d), and raises
    ValueError for anything else. `compute` returns a 0-dim float64 <= 1, negative if the mean is a better
    reconstruction; NaN if there are no rows or all are equal. Every process must see at least one batch, which may be
    empty.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ExplainedVariance()
        >>> metric.update(residual=torch.tensor([[0.5, 0.0]]), x=torch.tensor([[101.0, 0.0]]))
        >>> metric.update(residual=torch.tensor([[0.0, 0.5]]), x=torch.tensor([[99.0, 0.0]]))
        >>> metric.compute()  # 1 - 0.5 / 2
        tensor(0.7500, dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = True
    full_state_update: bool = False

    squared_residuals: Tensor
    sum_x: Tensor
    sum_squares: Tensor
    rows: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("squared_residuals", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_x", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")  # (d,) from the first batch
        self.add_state("sum_squares", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, residual: Tensor, x: Tensor) -> None:
        """Add the rows of a batch."""
        squared_residuals, sum_x, sum_squares, rows = _explained_variance_update(residual, x)
        self.squared_residuals = self.squared_residuals + squared_residuals
        self.sum_x = self.sum_x + sum_x
        self.sum_squares = self.sum_squares + sum_squares
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """Explained variance of all rows so far."""
        return _explained_variance_compute(self.squared_residuals, self.sum_x, self.sum_squares, self.rows)
