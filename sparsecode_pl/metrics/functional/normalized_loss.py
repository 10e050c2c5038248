"""The objective in units of the penalty and the largest coefficient, L_norm."""

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import divide_by_maxima, row_maxima
from sparsecode_pl.metrics.functional.sparse_coding_loss import _sparse_coding_loss_update


def _normalized_loss_update(codes: Tensor, residual: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor, int]:
    """Objective and penalised row maxima, both summed over the rows, and the number of rows."""
    objective, rows = _sparse_coding_loss_update(codes, residual, lam)
    return objective, lam * row_maxima(codes).sum(dtype=torch.float64), rows


def _normalized_loss_compute(objective: Tensor, penalised_maxima: Tensor, rows: int | Tensor) -> Tensor:
    return divide_by_maxima(objective, penalised_maxima, rows, "normalized_loss")


def normalized_loss(codes: Tensor, residual: Tensor, lam: float | Tensor) -> Tensor:
    r"""L_norm, the normalized loss (arXiv 2310.07837, section 3).

    .. math:: L_{norm} = \frac{L}{\lambda \, \frac{1}{n} \sum_j \max_i c_{ji}}

    It counts features as S_1 does, and adds the reconstruction error. With residual 0 the two are equal.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        residual: activations minus their reconstruction, (n, d), in the units of the codes.
        lam: penalty > 0, in the same units.

    Returns:
        0-dim float64 >= 1. NaN if there are no rows, and NaN with a warning if all codes are zero.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; residual has another number of rows; lam is not
            finite and > 0.

    Example:
        >>> import torch
        >>> codes = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
        >>> residual = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> normalized_loss(codes, residual, lam=0.5)  # (5 + 0.5 * 6) / (0.5 * 5)
        tensor(3.2000, dtype=torch.float64)
    """
    return _normalized_loss_compute(*_normalized_loss_update(codes, residual, lam))
