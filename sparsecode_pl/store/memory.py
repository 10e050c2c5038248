"""Collecting activations in memory."""

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from sparsecode_pl.store.block import check_block
from sparsecode_pl.utilities.arguments import check_arguments


class MemoryWriter:
    """Like a `StoreWriter`, but in memory: once it is finished, it gives what was appended as whole tensors.

    Args:
        layers: names and widths of the layers.
        columns: names of the columns.

    Attributes:
        complete: whether it is finished.
        num_shards: 0 until it is finished, because nothing is safe before; then 1.
        num_rows: rows of each layer up to the last `end_shard`.
        facts: those given to `finish`.

    Example:
        >>> writer = MemoryWriter({"0": 2})
        >>> writer.append({"0": torch.zeros(3, 2, dtype=torch.float16)}, {})
        >>> writer.finish()
        >>> writer.rows("0").shape, writer.rows("0").dtype
        (torch.Size([3, 2]), torch.float32)
    """

    def __init__(self, layers: Mapping[str, int], columns: Sequence[str] = ()) -> None:
        check_arguments(MemoryWriter.__init__, locals())
        self.complete = False
        self.num_shards = 0
        self.num_rows = 0
        self.facts: dict[str, Any] = {}
        self._layers, self._names = dict(layers), list(columns)
        self._parts: dict[str, deque[Tensor]] = {layer: deque() for layer in layers}
        self._column_parts: dict[str, deque[Tensor]] = {name: deque() for name in columns}
        self._rows: dict[str, Tensor] = {}
        self._columns: dict[str, Tensor] = {}
        self._pending = 0

    def append(self, rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> None:
        """Keep a float32 copy of the rows; see `StoreWriter.append`."""
        if self.complete:
            raise RuntimeError("the writer is finished: make another to collect more")
        first_row = self.num_rows + self._pending
        block = check_block(rows, columns, self._layers, self._names, torch.float32, first_row)
        for parts, given, kept in (
            (self._parts, rows, block.rows),
            (self._column_parts, columns, block.columns),
        ):
            for name, x in kept.items():  # the caller may reuse its memory, or it may be part of a larger tensor
                parts[name].append(x.clone() if x.data_ptr() == given[name].data_ptr() else x)
        self._pending += block.size

    def end_shard(self) -> None:
        """Count the rows appended since the last call."""
        self.num_rows += self._pending
        self._pending = 0

    def finish(self, **facts: Any) -> None:
        """Join the rows of each layer.

        Args:
            facts: kept as `facts`.

        Raises:
            ValueError: no row was ever appended.
        """
        self.end_shard()
        if self.num_rows == 0:
            raise ValueError("the writer got no rows: append some before it is finished")
        for layer, width in self._layers.items():
            self._rows[layer] = _joined(self._parts[layer], torch.empty(self.num_rows, width))
        for name in self._names:
            self._columns[name] = _joined(self._column_parts[name], torch.empty(self.num_rows, dtype=torch.int32))
        self.facts = facts
        self.complete, self.num_shards = True, 1

    def rows(self, layer: str) -> Tensor:
        """All rows of a layer, (n, width) float32, once it is finished."""
        return self._rows[layer]

    def columns(self) -> dict[str, Tensor]:
        """The whole columns, (n,) int32, once it is finished."""
        return self._columns

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def _joined(parts: deque[Tensor], whole: Tensor) -> Tensor:
    """Copy parts into a tensor one after another and free each, so that the rows are never in memory twice."""
    start = 0
    while parts:
        part = parts.popleft()
        whole[start : start + len(part)] = part
        start += len(part)
    return whole
