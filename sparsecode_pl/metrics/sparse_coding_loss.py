"""The objective of sparse coding, L."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.sparse_coding_loss import _sparse_coding_loss_compute, _sparse_coding_loss_update


class SparseCodingLoss(Metric):
    r"""L, the objective of sparse coding (arXiv 2310.07837, eq. 1).

    .. math:: L = \frac{1}{n} \sum_j \lVert x_j - \hat{x}_j \rVert_2^2 + \lambda \lVert c_j \rVert_1

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR; `residual`, activations minus their reconstruction,
    (n, d); and `lam`, the penalty > 0 of this batch. It raises ValueError for anything else. `compute` returns a 0-dim
    float64 >= 0; the mean squared norm of x if all codes are zero, NaN if there were no rows.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = SparseCodingLoss()
        >>> codes = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
        >>> metric.update(codes=codes, residual=torch.tensor([[1.0, 0.0], [0.0, 2.0]]), lam=0.5)
        >>> metric.compute()  # (1 + 4 + 0.5 * 6) / 2
        tensor(4., dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = False
    full_state_update: bool = False

    objective: Tensor
    rows: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("objective", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor, residual: Tensor, lam: float | Tensor) -> None:
        """Add the rows of a batch."""
        objective, rows = _sparse_coding_loss_update(codes, residual, lam)
        self.objective = self.objective + objective
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """L of all rows so far."""
        return _sparse_coding_loss_compute(self.objective, self.rows)
