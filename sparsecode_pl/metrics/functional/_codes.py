"""What the metrics share: checks of what they are given, and sums over codes, dense or CSR.

Sums are taken in float64 whatever the dtype of the input, and no dense (n, m) array is made from a CSR tensor.
"""

import math

import torch
from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn


def check_codes(codes: Tensor, residual: Tensor | None = None) -> None:
    """Check the shape and layout of codes, and that a residual has as many rows. Reads no values.

    Raises:
        ValueError: codes are not a floating-point matrix with columns, dense or CSR, or residual is not (n, d).
    """
    if codes.ndim != 2 or codes.shape[1] == 0 or not codes.is_floating_point():
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and dtype {codes.dtype}: give floats (n, m), one row per sample"
        )
    if codes.layout not in (torch.strided, torch.sparse_csr):
        raise ValueError(f"codes have layout {codes.layout}: give a dense tensor or CSR (codes.to_sparse_csr())")
    if residual is not None and (residual.ndim != 2 or len(residual) != len(codes)):
        raise ValueError(
            f"residual has shape {tuple(residual.shape)}, but there are {len(codes)} rows of codes: "
            f"give ({len(codes)}, d), of the same samples"
        )


def check_penalty(lam: float | Tensor) -> None:
    """Check a penalty, unless it is on a device: reading it there would wait for the device.

    Raises:
        ValueError: not a single finite number above 0.
    """
    if isinstance(lam, Tensor):
        if lam.ndim:
            raise ValueError(f"lam has shape {tuple(lam.shape)}: give a float or a 0-dim tensor")
        if lam.device.type != "cpu":
            return
    if not (math.isfinite(lam) and lam > 0):
        raise ValueError(f"lam is {float(lam)}: give a finite penalty above 0, the one that the codes were found with")


def stored_values(codes: Tensor) -> Tensor:
    """All coefficients that are stored, zeros among them."""
    return codes.values() if codes.layout == torch.sparse_csr else codes


def row_maxima(codes: Tensor) -> Tensor:
    """Largest coefficient of each row, 0 for a row without any, (n,)."""
    if codes.layout == torch.sparse_csr:
        return torch.segment_reduce(codes.values(), "max", offsets=codes.crow_indices(), initial=0.0)
    return codes.amax(dim=1)


def squared_norm(x: Tensor) -> Tensor:
    """Sum of all squares, without a float64 copy of x."""
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return norm.square()


def divide_by_maxima(total: Tensor, maxima: Tensor, rows: int | Tensor, name: str) -> Tensor:
    """A sum over samples divided by the sum of their row maxima; NaN, with a warning, if all codes are zero."""
    if maxima == 0:
        if rows:
            rank_zero_warn(f"{name} is NaN, because every code is zero: lam is too large for the data, lower it")
        return torch.full_like(total, math.nan)
    return total / maxima
