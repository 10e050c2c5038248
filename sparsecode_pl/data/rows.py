"""Rows of activations, in memory or on disk."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """What a data module asks of its rows, (n, d_model) float32: a tensor has it, and so has a memory-mapped store."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d_model)."""

    def __len__(self) -> int:
        """Number of rows n."""

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some rows, float32: those of an index, (k,) int64, or of a slice."""


def row_blocks(rows: Rows, index: Tensor | None = None, size: int = 16384) -> Iterator[Tensor]:
    """Rows a block at a time, so that no more of them is in memory.

    Args:
        rows: all rows, (n, d_model).
        index: which of them, in order, (k,) int64; all if None.
        size: rows a block at most.

    Yields:
        (at most size, d_model) float32.
    """
    if index is None:
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
    else:
        yield from (rows[part] for part in index.split(size))
