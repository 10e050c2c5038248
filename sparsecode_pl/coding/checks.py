"""Checks of the inputs of a coefficient step."""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from sparsecode_pl.utilities.arguments import check_positive, check_tensor

# Products stay finite while norms are so much smaller than the largest number of the dtype.
_HEADROOM = 16


def check_penalty(lam: float, name: str = "lam") -> float:
    """Return the penalty as a float.

    Raises:
        ValueError: not a finite number above 0.
    """
    return check_positive(lam, name, "a finite penalty above 0, such as a tenth of the mean norm of x")


def check_atoms(atoms: Tensor) -> None:
    """Check that atoms are a matrix of finite unit rows.

    Raises:
        ValueError: not a dense float32 or float64 matrix, not finite, or a row whose L2 norm is not 1.
    """
    check_tensor(atoms, "atoms")
    if atoms.ndim != 2 or atoms.numel() == 0 or atoms.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"atoms have shape {tuple(atoms.shape)} and dtype {atoms.dtype}: give a float32 or float64 matrix (m, d)"
        )
    norms = torch.linalg.vector_norm(atoms, dim=1)
    wrong = ~((norms - 1).abs() <= 1e-3)  # negated, so that NaN is wrong too
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"atoms: {int(wrong.sum())} of {len(atoms)} rows have an L2 norm that is not 1 "
            f"(first: row {row}, norm {float(norms[row]):.4g}): normalise them, and look for NaN if the norm is nan"
        )


def check_problem(x: Tensor, atoms: Tensor, lam: float, max_atoms: int | None) -> Tensor:
    """Check activations, atoms and penalty together.

    Returns:
        L2 norms of the samples, (n,) float64.

    Raises:
        ValueError: widths, dtypes or devices differ, x is not finite, dot products with x could overflow in this dtype,
            half the penalty is infinite or below the normal numbers of this dtype, or `max_atoms` is below 1.
    """
    check_atoms(atoms)
    check_tensor(x, "x")
    limits = torch.finfo(atoms.dtype)
    half = float(torch.tensor(lam / 2, dtype=atoms.dtype))
    if not limits.tiny <= half < math.inf:
        raise ValueError(f"lam is {lam}, half of which is {half} in {atoms.dtype}: scale x and lam, or give float64")
    if x.ndim != 2 or x.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but the atoms have width {atoms.shape[1]}: give (n, {atoms.shape[1]})"
        )
    if x.dtype != atoms.dtype or x.device != atoms.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device}, but the atoms are {atoms.dtype} on {atoms.device}: convert one of them"
        )
    if max_atoms is not None and max_atoms < 1:
        raise ValueError(f"max_atoms is {max_atoms}: give at least 1, or None for no bound")
    # In float64, in which squares of float32 values neither overflow nor vanish.
    norms: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    most = limits.max / _HEADROOM
    if not (norms <= most).all():  # negated, so that NaN is wrong too
        bad = ~torch.isfinite(x)
        if bad.any():
            raise ValueError(
                f"x: {int(bad.sum())} values are NaN or infinite (first in row {int(bad.any(1).nonzero()[0])}): "
                "drop these rows, or find their cause"
            )
        row = int((norms > most).nonzero()[0])
        raise ValueError(
            f"x: {int((norms > most).sum())} of {len(x)} rows have an L2 norm above {most:.1e} (first: row {row}, norm "
            f"{float(norms[row]):.1e}), where dot products overflow in {x.dtype}: divide x and lam by the same number"
        )
    return norms


def check_gram(gram: Tensor, atoms: Tensor) -> None:
    """Check shape, device and dtype of a Gram matrix.

    Raises:
        ValueError: shape or device do not fit the atoms, or the dtype is not a floating one.
    """
    m = len(atoms)
    check_tensor(gram, "gram")
    if gram.shape != (m, m) or gram.device != atoms.device or not gram.is_floating_point():
        raise ValueError(
            f"gram is {gram.dtype} of shape {tuple(gram.shape)} on {gram.device}: give atoms @ atoms.T, "
            f"floats of shape {(m, m)} on {atoms.device}"
        )


def warn(message: str) -> None:
    """Warn the user; with several processes, only in the first."""
    from torchmetrics.utilities import rank_zero_warn  # imported here because it takes longer than all the rest

    rank_zero_warn(message)


def choose_backend(backend: str, backends: Collection[str], device: torch.device) -> str:
    """The name of the backend to use: for "auto", numba on the CPU and torch elsewhere.

    Raises:
        ValueError: there is no such backend, or it cannot work on the device.
    """
    if backend == "auto":
        backend = "numba" if device.type == "cpu" else "torch"
    if backend not in backends:
        raise ValueError(f"backend is {backend!r}: give one of {', '.join(['auto', *backends])}")
    if backend == "numba" and device.type != "cpu":
        raise ValueError(f"backend is 'numba', but x is on {device}: use 'auto', or move x and atoms to the CPU")
    return backend
