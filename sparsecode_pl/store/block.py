"""Checks of rows before they are appended to a store."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_INT32 = torch.iinfo(torch.int32)


class Block(NamedTuple):
    """Rows of every layer, checked and converted.

    Attributes:
        size: number of rows k.
        rows: for each layer (k, width), contiguous, on the CPU.
        columns: for each column (k,) int32, on the CPU.
    """

    size: int
    rows: dict[str, Tensor]
    columns: dict[str, Tensor]


def check_block(
    rows: Mapping[str, Tensor],
    columns: Mapping[str, Tensor],
    layers: Mapping[str, int],
    names: Sequence[str],
    dtype: torch.dtype,
    first_row: int,
) -> Block:
    """Check rows that are to be stored, and convert them.

    Args:
        rows: for each layer (k, width), of any floating dtype.
        columns: for each column (k,), integers.
        layers: the expected layers, and their widths.
        names: the expected columns.
        dtype: of the stored rows.
        first_row: number of the first row, for messages.

    Raises:
        ValueError: a layer or column is missing or unknown, has the wrong width, length or dtype, or has values that
            are not finite or do not fit into the dtype.
    """
    for kind, given, wanted in (("layers", rows, layers), ("columns", columns, names)):
        if set(given) != set(wanted):
            raise ValueError(f"{kind} given are {', '.join(given) or 'none'}: give {', '.join(wanted) or 'none'}")
    first = next(iter(rows.values()))
    size = first.shape[0] if first.dim() else 0
    kept = {}
    for layer, width in layers.items():
        x = rows[layer]
        if tuple(x.shape) != (size, width) or not x.is_floating_point():
            raise ValueError(
                f"layer {layer!r} is {x.dtype} of shape {tuple(x.shape)}: give floating-point rows of shape ({size}, "
                f"{width}), the same number for every layer and column"
            )
        kept[layer] = x.detach().to("cpu", dtype).contiguous()
    kept_columns = {name: _column(name, columns[name], size) for name in names}
    for layer, x in kept.items():
        # One pass. A sum of finite values may overflow too, so this only tells where to look closer.
        if not math.isfinite(x.sum(dtype=torch.float32).item()):
            _check_finite(layer, rows[layer], x, kept_columns, first_row)
    return Block(size, kept, kept_columns)


def _column(name: str, x: Tensor, size: int) -> Tensor:
    if tuple(x.shape) != (size,) or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"column {name!r} is {x.dtype} of shape {tuple(x.shape)}: give integers of shape ({size},)")
    if size and not (_INT32.min <= int(x.min()) and int(x.max()) <= _INT32.max):
        raise ValueError(f"column {name!r} has values from {x.min()} to {x.max()}: give values that fit into 32 bits")
    return x.detach().to("cpu", torch.int32)


def _check_finite(layer: str, given: Tensor, kept: Tensor, columns: Mapping[str, Tensor], first_row: int) -> None:
    bad = ~torch.isfinite(kept).all(1)
    if not bad.any():
        return
    row = int(bad.nonzero()[0])
    where = f"row {first_row + row}" + "".join(f", {name} {x[row]}" for name, x in columns.items())
    values = given[row]
    if torch.isfinite(values).all():
        largest = float(values.abs().max())
        raise ValueError(
            f"layer {layer!r} has a value of size {largest:g} ({where}), which does not fit into {kept.dtype}: store "
            "the activations as float32 or bfloat16"
        )
    raise ValueError(
        f"layer {layer!r} has values that are NaN or infinite ({where}): find out what made them, or leave the row out"
    )
