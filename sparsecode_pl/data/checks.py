"""Checks of activations, made before any long work starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.data.rows import Rows
from sparsecode_pl.utilities.arguments import check_tensor


def check_activations(x: Rows, source: str) -> Rows:
    """Check activations, and return a tensor as a contiguous float32 CPU matrix.

    Args:
        x: activations, (n, d_model). Values of rows that are not in memory are not checked.
        source: the name of the data, for messages.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not a dense matrix, fewer than two rows, no columns, or values that are not finite.

    Example:
        >>> check_activations(torch.tensor([[0.0, float("nan")], [1.0, 2.0]]), source="x")
        Traceback (most recent call last):
        ...
        ValueError: x: 1 of 4 activations are NaN or infinite, in 1 of 2 rows (first: row 0, dimension 1). Drop these \
rows, or find out what made them
    """
    if isinstance(x, Tensor):
        check_tensor(x, f"{source}: activations")
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


def check_columns(
    columns: Mapping[str, Sequence[Any] | NDArray[Any] | Tensor], num_rows: int, source: str
) -> dict[str, list[str] | Tensor]:
    """Check columns, and return each as a list of strings or a CPU tensor.

    Args:
        columns: one entry for each row, by name: strings, integers, floats or bools in a list, an array or a tensor.
        num_rows: number of rows.
        source: the name of the data, for messages.

    Raises:
        ValueError: a column has not one entry for each row, or is a tensor without values.
        TypeError: a name is no string, a column is no list, array or tensor, or its entries are neither numbers nor
            strings.

    Example:
        >>> check_columns({"speaker": np.array(["a", "b"]), "line": [3, 4]}, 2, source="x")
        {'speaker': ['a', 'b'], 'line': tensor([3, 4])}
        >>> check_columns({"speaker": ["a", "b"]}, 3, source="x")
        Traceback (most recent call last):
        ...
        ValueError: x: column 'speaker' has 2 entries, but there are 3 rows: give one entry for each row
    """
    return {name: _check_column(name, values, num_rows, source) for name, values in columns.items()}


def _check_column(
    name: str, values: Sequence[Any] | NDArray[Any] | Tensor, num_rows: int, source: str
) -> list[str] | Tensor:
    if not isinstance(name, str):
        raise TypeError(f"{source}: a column has the name {name!r}: give a string")
    if not isinstance(values, Sequence | np.ndarray | Tensor) or isinstance(values, str | bytes):
        raise TypeError(f"{source}: column {name!r} is a {type(values).__name__}: give a list, an array or a tensor")
    if isinstance(values, Tensor):
        check_tensor(values, f"{source}: column {name!r}")
        if values.is_complex():
            raise TypeError(f"{source}: column {name!r} holds {values.dtype}: give numbers or strings")
    if getattr(values, "ndim", 1) != 1:
        shape = tuple(values.shape)  # type: ignore[union-attr]
        raise ValueError(f"{source}: column {name!r} has shape {shape}: give one entry for each row")
    if len(values) != num_rows:
        raise ValueError(
            f"{source}: column {name!r} has {len(values)} entries, but there are {num_rows} rows: give one entry for "
            "each row"
        )
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    array = np.asarray(values)
    kind = array.dtype.kind
    if kind == "U" or (kind == "O" and all(isinstance(value, str) for value in array)):
        strings: list[str] = array.tolist()
        return strings
    if kind not in "biuf":
        raise TypeError(f"{source}: column {name!r} holds {array.dtype}: give numbers or strings")
    return torch.from_numpy(array.astype({"b": np.bool_, "f": np.float64}.get(kind, np.int64)))
