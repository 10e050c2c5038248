"""How far the objective of codes exceeds that of exact codes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.coding_gap import _coding_gap_compute, _coding_gap_update


class CodingGap(Metric):
    r"""Relative excess of the objective over a lower bound for all codes (arXiv 2310.07837, eq. 1 and appendix C).

    .. math:: \frac{\sum_j P_j - D_j}{\sum_j D_j}, \quad
        P_j = \lVert x_j - \hat{x}_j \rVert_2^2 + \lambda \lVert c_j \rVert_1

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR; `residual`, activations minus their reconstruction,
    (n, d); `lam`, the penalty > 0 of this batch; and `bound`, D, a lower bound on each sample's objective over all
    codes >= 0, (n,), such as `functional.lower_bound` returns. It raises ValueError for anything else. `compute`
    returns a 0-dim float64 >= 0 up to rounding; NaN if there were no rows, or if all activations were zero.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = CodingGap()
        >>> codes, residual = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]])
        >>> metric.update(codes=codes, residual=residual, lam=2.0, bound=torch.tensor([6.4]))
        >>> metric.compute()  # (2 + 2 * 3 - 6.4) / 6.4
        tensor(0.2500, dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = False
    full_state_update: bool = False

    objective: Tensor
    bounds: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("objective", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("bounds", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, codes: Tensor, residual: Tensor, lam: float | Tensor, bound: Tensor) -> None:
        """Add the rows of a batch."""
        objective, bounds = _coding_gap_update(codes, residual, lam, bound)
        self.objective = self.objective + objective
        self.bounds = self.bounds + bounds

    def compute(self) -> Tensor:
        """Relative excess over all rows so far."""
        return _coding_gap_compute(self.objective, self.bounds)
