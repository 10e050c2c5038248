"""The objective in units of the penalty and the largest coefficient, L_norm."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.normalized_loss import _normalized_loss_compute, _normalized_loss_update


class NormalizedLoss(Metric):
    r"""L_norm, the normalized loss (arXiv 2310.07837, section 3).

    .. math:: L_{norm} = \frac{L}{\lambda \, \frac{1}{n} \sum_j \max_i c_{ji}}

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR; `residual`, activations minus their reconstruction,
    (n, d); and `lam`, the penalty > 0 of this batch. It raises ValueError for anything else. If lam differs between
    batches, each sample enters both sums, L and lam times the maximum, with its own lam. `compute` returns a 0-dim
    float64 >= 1; NaN if there were no rows, and NaN with a warning if all codes were zero.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = NormalizedLoss()
        >>> codes = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
        >>> metric.update(codes=codes, residual=torch.tensor([[1.0, 0.0], [0.0, 2.0]]), lam=0.5)
        >>> metric.compute()  # (5 + 0.5 * 6) / (0.5 * 5)
        tensor(3.2000, dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = False
    full_state_update: bool = False

    objective: Tensor
    penalised_maxima: Tensor
    rows: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("objective", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("penalised_maxima", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor, residual: Tensor, lam: float | Tensor) -> None:
        """Add the rows of a batch."""
        objective, penalised_maxima, rows = _normalized_loss_update(codes, residual, lam)
        self.objective = self.objective + objective
        self.penalised_maxima = self.penalised_maxima + penalised_maxima
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """L_norm of all rows so far."""
        return _normalized_loss_compute(self.objective, self.penalised_maxima, self.rows)
