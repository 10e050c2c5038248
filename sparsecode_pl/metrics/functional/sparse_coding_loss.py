"""The objective of sparse coding, L."""

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, check_penalty, squared_norm, stored_values


def _sparse_coding_loss_update(codes: Tensor, residual: Tensor, lam: float | Tensor) -> tuple[Tensor, int]:
    """Objective summed over the rows, and their number."""
    check_codes(codes, residual)
    check_penalty(lam)
    return squared_norm(residual) + lam * stored_values(codes).sum(dtype=torch.float64), len(codes)


def _sparse_coding_loss_compute(objective: Tensor, rows: int | Tensor) -> Tensor:
    return objective / rows


def sparse_coding_loss(codes: Tensor, residual: Tensor, lam: float | Tensor) -> Tensor:
    r"""L, the objective of sparse coding (arXiv 2310.07837, eq. 1).

    .. math:: L = \frac{1}{n} \sum_j \lVert x_j - \hat{x}_j \rVert_2^2 + \lambda \lVert c_j \rVert_1

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        residual: activations minus their reconstruction, (n, d), in the units of the codes.
        lam: penalty > 0, in the same units.

    Returns:
        0-dim float64 >= 0; the mean squared norm of x if all codes are zero, NaN if there are no rows.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; residual has another number of rows; lam is not
            finite and > 0.

    Example:
        >>> import torch
        >>> codes = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
        >>> residual = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> sparse_coding_loss(codes, residual, lam=0.5)  # (1 + 4 + 0.5 * 6) / 2
        tensor(4., dtype=torch.float64)
    """
    return _sparse_coding_loss_compute(*_sparse_coding_loss_update(codes, residual, lam))
