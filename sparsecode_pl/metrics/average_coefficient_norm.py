"""The sum of a code's coefficients in units of its largest one, S_p."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.average_coefficient_norm import (
    _average_coefficient_norm_compute,
    _average_coefficient_norm_update,
    _check_exponent,
)


class AverageCoefficientNorm(Metric):
    r"""S_p, the average coefficient norm (arXiv 2310.07837, section 3).

    .. math:: S_p = \frac{\sum_{ij} c_{ji}^p}{\sum_j \max_i c_{ji}^p}

    `update` takes `codes`, coefficients >= 0, (n, m), dense or CSR, and raises ValueError for anything else. `compute`
    returns a 0-dim float64 in [1, m]; NaN if there were no rows, and NaN with a warning if all codes were zero.

    Args:
        p: exponent > 0.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: p is not finite and > 0.

    Example:
        >>> import torch
        >>> metric = AverageCoefficientNorm()
        >>> metric.update(codes=torch.tensor([[0.0, 2.0, 1.0]]))
        >>> metric.update(codes=torch.tensor([[3.0, 0.0, 0.0]]))
        >>> metric.compute()  # (3 + 3) / (2 + 3)
        tensor(1.2000, dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = False
    full_state_update: bool = False

    powers: Tensor
    maxima: Tensor
    rows: Tensor

    def __init__(self, p: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_exponent(p)
        self.p = p
        self.add_state("powers", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("maxima", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add the rows of a batch."""
        powers, maxima, rows = _average_coefficient_norm_update(codes, self.p)
        self.powers = self.powers + powers
        self.maxima = self.maxima + maxima
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """S_p of all rows so far."""
        return _average_coefficient_norm_compute(self.powers, self.maxima, self.rows)
