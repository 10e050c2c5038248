"""Checks of activations, made before any long work starts."""

import torch
from torch import Tensor

from sparsecode_pl.data.rows import Rows


def check_activations(x: Rows, source: str) -> Rows:
    """Check activations, and return a tensor as a contiguous float32 CPU matrix.

    Args:
        x: activations, (n, d_model). Values of rows that are not in memory are not checked.
        source: the name of the data, for messages.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not a matrix, fewer than two rows, no columns, or values that are not finite.

    Example:
        >>> check_activations(torch.tensor([[0.0, float("nan")], [1.0, 2.0]]), source="x")
        Traceback (most recent call last):
        ...
        ValueError: x: 1 of 4 activations are NaN or infinite, in 1 of 2 rows (first: row 0, dimension 1). Drop these \
rows, or find out what made them
    """
    if not hasattr(x, "shape") or (isinstance(x, Tensor) and not x.is_floating_point()):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{source}: activations are {kind}: give a floating-point tensor")
    if len(x.shape) != 2 or x.shape[1] == 0:
        raise ValueError(f"{source}: activations have shape {tuple(x.shape)}: give a matrix (samples, d_model)")
    if x.shape[0] < 2:
        raise ValueError(f"{source}: activations have {x.shape[0]} samples: give at least 2")
    if not isinstance(x, Tensor):
        return x
    x = x.detach().to("cpu", torch.float32).contiguous()
    bad = ~torch.isfinite(x)
    if bad.any():
        row, dimension = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{source}: {int(bad.sum())} of {x.numel()} activations are NaN or infinite, in {int(bad.any(1).sum())} of "
            f"{len(x)} rows (first: row {row}, dimension {dimension}). Drop these rows, or find out what made them"
        )
    return x
