"""Reading a store, memory-mapped."""

from difflib import SequenceMatcher
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsecode_pl.store.integrity import CURE, check_files
from sparsecode_pl.store.manifest import DTYPES, MANIFEST, Manifest, column_file, layer_file


class StoredRows:
    """The rows of one layer, which behave like a float32 matrix (n, width) and stay on disk.

    Each process maps the files when it first asks for rows. A pickle holds only their paths.

    Args:
        paths: the shards.
        sizes: number of rows in each.
        width: of the rows.

    Attributes:
        shape: (n, width).
    """

    def __init__(self, paths: list[Path], sizes: list[int], width: int) -> None:
        self.shape = (sum(sizes), width)
        self._paths = [path.absolute() for path in paths]  # other processes may have started elsewhere
        self._starts = torch.tensor([0, *accumulate(sizes)])

    @cached_property
    def _shards(self) -> list[Tensor]:
        """Tensors over the mapped files."""
        sizes = self._starts.diff().tolist()
        return [
            _read(path, ["activations"], (size, self.shape[1]))[0]
            for path, size in zip(self._paths, sizes, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files."""
        return {name: value for name, value in self.__dict__.items() if name != "_shards"}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some rows, a float32 copy (k, width).

        Args:
            index: which rows, (k,) int64, or a slice.

        Raises:
            IndexError: there is no such row.
            ValueError: a file is gone or damaged, or a row has values that are not finite, which no writer stores.
        """
        rows = self._rows(index)
        # If any value is not finite, neither is the sum, which takes no memory.
        if not torch.isfinite(rows.sum()) and (bad := ~torch.isfinite(rows)).any():
            number = int(bad.any(1).nonzero()[0])
            row = range(len(self))[index][number] if isinstance(index, slice) else int(index[number]) % len(self)
            shard = int(torch.bucketize(torch.tensor(row), self._starts, right=True)) - 1
            raise ValueError(
                f"{self._paths[shard]} is damaged: row {row} has values that are NaN or infinite, which are never "
                f"stored: {CURE}"
            )
        return rows

    def _rows(self, index: Tensor | slice) -> Tensor:
        if not isinstance(index, slice):
            return self._gather(index)
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self._gather(torch.tensor(range(start, stop, step), dtype=torch.int64))
        firsts = self._starts.tolist()
        return self._joined(
            [
                shard[max(start - first, 0) : max(stop - first, 0)]
                for shard, first, end in zip(self._shards, firsts, firsts[1:], strict=False)
                if start < end and first < stop
            ]
        )

    def _gather(self, index: Tensor) -> Tensor:
        index = torch.where(index < 0, index + len(self), index)
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < len(self)):
            raise IndexError(f"index has rows outside of 0 to {len(self) - 1}: give rows in this range")
        if len(self._shards) == 1:
            return self._shards[0].index_select(0, index).to(torch.float32)
        # One call for each shard, then restore the order that was asked for.
        ordered, order = index.sort()
        local = ordered - self._starts[torch.bucketize(ordered, self._starts, right=True) - 1]
        sizes = torch.searchsorted(ordered, self._starts).diff().tolist()
        shards = zip(self._shards, local.split(sizes), strict=True)
        rows = self._joined([shard.index_select(0, part) for shard, part in shards if len(part)])
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        return rows.index_select(0, inverse)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts).to(torch.float32) if parts else torch.empty(0, self.shape[1])


class Store:
    """A folder of activations that `StoreWriter` or `write_store` wrote.

    Args:
        path: the folder.
        partial: read what is there of an unfinished store too.
        verify: read all files through and compare their checksums; sizes and headers are compared anyway.

    Raises:
        FileNotFoundError: the folder is no store.
        ValueError: it is unfinished, of a newer format, or a file is missing or not what the manifest says.

    Attributes:
        path: the folder.
        source: how the activations were made.
        facts: what was known at the end, such as how many rows were dropped.
        layers: names and widths.
        num_rows: rows of each layer.
        complete: whether the store is finished.
        dtype: of the stored rows.
    """

    def __init__(self, path: str | Path, *, partial: bool = False, verify: bool = False) -> None:
        self.path = Path(path)
        self._manifest = Manifest.read(self.path)
        if not (self._manifest.complete or partial):
            raise ValueError(
                f"the store at {self.path} is unfinished, with {self._manifest.num_rows} rows so far: run what wrote "
                "it again, which continues from there, or read what is there with partial=True"
            )
        check_files(self.path, self._manifest, verify)
        self.source: dict[str, Any] = self._manifest.source
        self.facts: dict[str, Any] = self._manifest.facts
        self.layers: dict[str, int] = self._manifest.layers
        self.num_rows: int = self._manifest.num_rows
        self.complete: bool = self._manifest.complete
        self.dtype: torch.dtype = DTYPES[self._manifest.dtype]

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether a folder holds a store, complete or not."""
        return (Path(path) / MANIFEST).is_file()

    def rows(self, layer: str) -> StoredRows:
        """The rows of a layer, memory-mapped.

        Raises:
            ValueError: there is no such layer.
        """
        if layer not in self.layers:
            near = sorted(self.layers, key=lambda name: -SequenceMatcher(None, name, layer).ratio())
            raise ValueError(
                f"layer is {layer!r}, but the store at {self.path} has no such layer: give one of {', '.join(near)}"
            )
        paths = [self.path / layer_file(layer, number) for number in range(len(self._manifest.shards))]
        return StoredRows(paths, [shard.rows for shard in self._manifest.shards], self.layers[layer])

    def columns(self) -> dict[str, Tensor]:
        """The columns, (n,) int32 each, read whole."""
        if not (self._manifest.columns and self._manifest.shards):
            return {name: torch.empty(0, dtype=torch.int32) for name in self._manifest.columns}
        shards = enumerate(self._manifest.shards)
        each = [
            _read(self.path / column_file(number), self._manifest.columns, (shard.rows,)) for number, shard in shards
        ]
        parts = zip(*each, strict=True)
        return {name: torch.cat(part) for name, part in zip(self._manifest.columns, parts, strict=True)}


def _read(path: Path, names: list[str], shape: tuple[int, ...]) -> list[Tensor]:
    """Tensors of a shape over a mapped file, which may have changed since the store was opened."""
    try:
        with safe_open(path, "pt") as file:
            found = [file.get_tensor(name) for name in names]
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read any more ({error}): {CURE}") from error
    if any(tensor.shape != shape for tensor in found):
        raise ValueError(f"{path} has changed, its tensors are not of shape {shape} any more: {CURE}")
    return found
