"""Rows of activations, in memory or on disk."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """What a data module needs from rows, (n, d_model) float32: both a tensor and a memory-mapped store have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d_model)."""

    def __len__(self) -> int:
        """Number of rows n."""

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some rows, float32: those of an index, (k,) int64, or of a slice."""


def row_blocks(rows: Rows, index: Tensor | None = None, size: int = 16384) -> Iterator[Tensor]:
    """Rows block by block, so that only one block is in memory at a time.

    Args:
        rows: all rows, (n, d_model).
        index: the rows that are taken, in order, (k,) int64; all if None.
        size: maximum number of rows in a block.

    Yields:
        (at most size, d_model) float32.
    """
    if index is None:
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
    else:
        yield from (rows[part] for part in index.split(size))
