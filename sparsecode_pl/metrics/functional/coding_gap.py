"""How far the objective of codes exceeds that of exact codes."""

import math

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, check_penalty
from sparsecode_pl.metrics.functional.sparse_coding_loss import _sparse_coding_loss_update
from sparsecode_pl.utilities.arguments import check_tensor


def _coding_gap_update(codes: Tensor, residual: Tensor, lam: float | Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Objective and its lower bound, both summed over the rows."""
    objective, rows = _sparse_coding_loss_update(codes, residual, lam)
    _check_per_row(bound, "bound", rows)
    return objective, bound.sum(dtype=torch.float64)


def _coding_gap_compute(objective: Tensor, bounds: Tensor) -> Tensor:
    return torch.where(bounds > 0, (objective - bounds) / bounds, math.nan)


def coding_gap(codes: Tensor, residual: Tensor, lam: float | Tensor, bound: Tensor) -> Tensor:
    r"""Relative excess of the objective over a lower bound for all codes (arXiv 2310.07837, eq. 1 and appendix C).

    .. math:: \frac{\sum_j P_j - D_j}{\sum_j D_j}, \quad
        P_j = \lVert x_j - \hat{x}_j \rVert_2^2 + \lambda \lVert c_j \rVert_1

    The paper defines its scores with exact codes but computes them with greedy codes. This measures the difference.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        residual: activations minus their reconstruction, (n, d), in the units of the codes.
        lam: penalty > 0, in the same units.
        bound: D, a lower bound on each sample's objective over all codes >= 0, (n,), such as `lower_bound` returns.

    Returns:
        0-dim float64 >= 0 up to rounding. NaN if there are no rows, or if all activations are zero.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; residual or bound has another number of rows; lam is not
            finite and > 0.

    Example:
        >>> import torch
        >>> codes, residual = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]])
        >>> coding_gap(codes, residual, lam=2.0, bound=torch.tensor([6.4]))  # (2 + 2 * 3 - 6.4) / 6.4
        tensor(0.2500, dtype=torch.float64)
    """
    return _coding_gap_compute(*_coding_gap_update(codes, residual, lam, bound))


def lower_bound(codes: Tensor, residual: Tensor, lam: float | Tensor, gap: Tensor) -> Tensor:
    """Lower bound on the objective of all codes of a sample, from codes with a certificate.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        residual: activations minus their reconstruction, (n, d), in the units of the codes.
        lam: penalty > 0, in the same units.
        gap: duality gap of each sample over its objective, in [0, 1], (n,), as `lasso_encode` returns.

    Returns:
        Lower bounds on the objective, (n,) float64.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; residual or gap has another number of rows; lam is not
            finite and > 0.

    Example:
        >>> import torch
        >>> codes, residual = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> lower_bound(codes, residual, lam=2.0, gap=torch.tensor([0.2]))  # (1 + 2 * 2) * (1 - 0.2)
        tensor([4.0000], dtype=torch.float64)
    """
    check_codes(codes, residual)
    check_penalty(lam)
    _check_per_row(gap, "gap", len(codes))
    if codes.layout == torch.sparse_csr:
        norms = torch.segment_reduce(codes.values().double(), "sum", offsets=codes.crow_indices(), initial=0)
    else:
        norms = codes.sum(dim=1, dtype=torch.float64)
    squares: Tensor = torch.linalg.vector_norm(residual, dim=1, dtype=torch.float64).square()
    return (squares + lam * norms) * (1 - gap)


def _check_per_row(values: Tensor, name: str, rows: int) -> None:
    check_tensor(values, name, floating=True)
    if values.shape != (rows,):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, but there are {rows} rows of codes: "
            f"give ({rows},), one number for each sample"
        )
