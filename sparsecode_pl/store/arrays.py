"""Write activations from anywhere to a store."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sparsecode_pl.store.block import Block, check_block
from sparsecode_pl.store.manifest import DTYPES
from sparsecode_pl.store.reader import Store
from sparsecode_pl.store.writer import StoreWriter
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

#: Name of the layer if arrays come without one.
ACTIVATIONS = "activations"
_BLOCK = 16384
_CURE = "give the arrays with which it was begun, delete that folder, or give another path"


def write_store(
    path: str | Path,
    arrays: Iterable[ArrayLike | Mapping[str, ArrayLike]],
    *,
    dtype: str = "float32",
    source: Mapping[str, Any] | None = None,
    shard_rows: int = 65536,
) -> Path:
    """Write activations from anywhere to a store.

    To resume after an interruption, call it again with the same arrays. It compares the rows that are in the store
    already, and continues after them.

    Args:
        path: the folder, new or empty, or that of an unfinished store of the same arrays.
        arrays: arrays or tensors of any lengths, which are joined. For one layer each is (k, d); for several each is a
            mapping from names to arrays: those of two dimensions, (k, width), are layers, and those of one dimension,
            (k,) integers, are columns, such as the number of each row's token.
        dtype: of the stored rows: "float32", "float16" or "bfloat16".
        source: where they come from, in plain types; "model" is the model's name in tables.
        shard_rows: rows in a shard, at least 1.

    Returns:
        The folder.

    Raises:
        ValueError: there are no arrays, they do not fit each other or are not finite, or the store holds other rows.
        OSError: the store cannot be written.

    Example:
        >>> import tempfile
        >>> from sparsecode_pl.data import ActivationStore
        >>> def arrays():
        ...     for start in range(0, 1000, 100):
        ...         yield {"mlp": np.random.randn(100, 8), "token": np.arange(start, start + 100)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = ActivationStore(write_store(folder, arrays(), source={"model": "mine"}), layer="mlp")
        ...     data.label, data.d_model, data.rows[torch.tensor([7, 999])].shape, int(data.source.columns["token"][7])
        ('mine layer mlp', 8, torch.Size([2, 8]), 7)
    """
    check_arguments(write_store, locals())
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}: give one of {', '.join(DTYPES)}")
    if shard_rows < 1:
        raise ValueError(f"shard_rows is {shard_rows}: give at least 1")
    if getattr(arrays, "ndim", 1) == 0:
        raise ValueError("arrays is a single number: give arrays, such as [x]")
    items = (_arrays(item) for item in arrays)
    first = next(items, None)
    if first is None:
        raise ValueError("arrays is empty: give at least one array")
    layers = {name: x.shape[1] for name, x in first.items() if len(x.shape) == 2}
    columns = [name for name, x in first.items() if len(x.shape) == 1]
    if len(layers) + len(columns) < len(first) or not layers:
        shapes = {name: tuple(x.shape) for name, x in first.items()}
        raise ValueError(f"arrays have shapes {shapes}: give layers of shape (k, width) and columns of shape (k,)")
    with StoreWriter(path, layers, columns, dtype=DTYPES[dtype], source=source) as writer:
        before = Store(path, partial=True)
        stored = {**{layer: before.rows(layer) for layer in layers}, **before.columns()}
        stop = 0
        for start, stop, block in _blocks(chain([first], items), shard_rows, before.num_rows):
            rows = {name: x for name, x in block.items() if name not in columns}
            integers = {name: x for name, x in block.items() if name in columns}
            if start < before.num_rows:
                _compare(stored, path, start, check_block(rows, integers, layers, columns, DTYPES[dtype], start))
            else:
                writer.append(rows, integers)
                if stop % shard_rows == 0:
                    writer.end_shard()
        if stop < before.num_rows:
            raise ValueError(f"arrays have {stop} rows, and the store at {path} holds {before.num_rows}: {_CURE}")
        if not writer.complete:
            writer.finish()
    return writer.path


def _arrays(item: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Any]:
    """An item as named arrays or tensors, all of the same length."""
    named = item if isinstance(item, Mapping) else {ACTIVATIONS: item}
    arrays = {name: _array(x, name) for name, x in named.items()}
    if len({tuple(x.shape[:1]) for x in arrays.values()}) != 1:
        shapes = {name: tuple(x.shape) for name, x in arrays.items()}
        raise ValueError(f"arrays have shapes {shapes}: give the same number of rows for every layer and column")
    return arrays


def _array(x: Any, name: str) -> Any:
    """An array or a tensor of numbers; what is neither becomes an array."""
    if isinstance(x, Tensor):
        check_tensor(x, f"arrays: {name!r}")
        return x
    try:
        array = x if hasattr(x, "shape") else np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"arrays: {name!r} is no array ({error}): give a matrix (k, d)") from error
    if np.dtype(array.dtype).kind not in "fiu":
        raise ValueError(f"arrays: {name!r} holds {array.dtype}: give floats for layers, and integers for columns")
    return array


def _blocks(
    items: Iterable[dict[str, Any]], shard_rows: int, stored: int
) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
    """Blocks and the numbers of their rows; no block crosses the end of a shard, or the end of the stored rows."""
    row = 0
    for item in items:
        start, size = 0, len(next(iter(item.values())))
        while start < size:
            ends = [size - start, _BLOCK, shard_rows - row % shard_rows, stored - row]
            count = min(end for end in ends if end > 0)
            yield row, row + count, {name: _tensor(x[start : start + count]) for name, x in item.items()}
            row, start = row + count, start + count


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    x = np.asarray(x)
    return torch.from_numpy(np.require(x, np.int64 if x.dtype.kind in "iu" else None, requirements="W"))


def _compare(stored: dict[str, Any], path: str | Path, start: int, block: Block) -> None:
    """Check that the rows which are in the store already are the same."""
    for name, x in {**block.rows, **block.columns}.items():
        differ = x.to(torch.float32 if x.is_floating_point() else x.dtype) != stored[name][start : start + block.size]
        if differ.any():
            row = start + int(differ.reshape(block.size, -1).any(1).nonzero()[0])
            raise ValueError(f"arrays: row {row} of {name!r} is not the one in the store at {path}: {_CURE}")
