"""Helpers that the metrics share: input checks, and sums over codes, dense or CSR.

Sums are taken in float64 whatever the input dtype, and CSR codes are never made dense.
"""

import math

import torch
from torch import Tensor
from torchmetrics.utilities.prints import rank_zero_warn

from sparsecode_pl.utilities.arguments import check_positive, check_tensor


def check_codes(codes: Tensor, *residuals: Tensor) -> None:
    """Check codes, and that a residual, if any, has as many rows. Values on a GPU are not read, which would take time.

    Raises:
        ValueError: codes are not a floating-point matrix (n, m), m >= 1, dense or CSR, or have values that are
            negative or not finite; or residual is not (n, d).
    """
    check_tensor(codes, "codes", sparse=True)
    if codes.ndim != 2 or codes.shape[1] == 0 or not codes.is_floating_point():
        raise ValueError(
            f"codes have shape {tuple(codes.shape)} and dtype {codes.dtype}: give floats (n, m), one row per sample"
        )
    values = stored_values(codes).detach()
    if values.device.type == "cpu" and values.numel():
        low, high = (float(each) for each in values.aminmax())
        if not (low >= 0 and high < math.inf):  # NaN is both
            raise ValueError(f"codes have values from {low:g} to {high:g}: give finite coefficients >= 0")
    for residual in residuals:
        check_tensor(residual, "residual", floating=True)
        if residual.ndim != 2 or len(residual) != len(codes):
            raise ValueError(
                f"residual has shape {tuple(residual.shape)}, but there are {len(codes)} rows of codes: "
                f"give ({len(codes)}, d), for the same samples"
            )


def check_penalty(lam: float | Tensor) -> None:
    """Check a penalty. A tensor that is not on the CPU is not read, because that would wait for its device.

    Raises:
        ValueError: not a single finite number above 0.
    """
    if isinstance(lam, Tensor):
        if lam.ndim:
            raise ValueError(f"lam has shape {tuple(lam.shape)}: give a float or a 0-dim tensor")
        if lam.device.type not in ("cpu", "meta"):
            return
    check_positive(lam, "lam", "a finite penalty above 0, the one used to find the codes")


def stored_values(codes: Tensor) -> Tensor:
    """All stored coefficients, including zeros."""
    return codes.values() if codes.layout == torch.sparse_csr else codes


def row_maxima(codes: Tensor) -> Tensor:
    """Largest coefficient of each row, 0 for an empty row, (n,)."""
    if codes.layout == torch.sparse_csr:
        return torch.segment_reduce(codes.values(), "max", offsets=codes.crow_indices(), initial=0.0)
    return codes.amax(dim=1)


def squared_norm(x: Tensor) -> Tensor:
    """Sum of all squares, without a float64 copy of x."""
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return norm.square()


def divide_by_maxima(total: Tensor, maxima: Tensor, rows: int | Tensor, name: str) -> Tensor:
    """Divide a sum over samples by the sum of their row maxima. NaN, with a warning, if all codes are zero."""
    if maxima == 0:
        if rows:
            rank_zero_warn(f"{name} is NaN, because every code is zero: lam is too large for the data, lower it")
        return torch.full_like(total, math.nan)
    return total / maxima
