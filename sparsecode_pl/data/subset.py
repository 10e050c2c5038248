"""Some of the rows of a source."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.source import Place, Source


class SubsetSource(Source):
    """Some of the rows of another source, with their columns. Rows that are on disk stay there.

    Args:
        source: all rows.
        index: the rows that are taken, in order, (k,) int64.

    Example:
        >>> import torch
        >>> from sparsecode_pl.data import TensorSource
        >>> subset = SubsetSource(TensorSource(torch.eye(4), columns={"word": list("abcd")}), torch.tensor([3, 1]))
        >>> subset.rows[:].argmax(1), subset.columns
        (tensor([3, 1]), {'word': ['d', 'b']})
    """

    def __init__(self, source: Source, index: Tensor) -> None:
        self.source = source
        self.index = index

    def load(self) -> Rows:
        """The rows taken, (k, d_model)."""
        return RowSubset(self.source.rows, self.index)

    @property
    def label(self) -> str:
        """The name of the whole."""
        return self.source.label

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return self.source.d_model

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The columns of the whole, at the rows taken."""
        return {
            name: column[self.index] if isinstance(column, Tensor) else [column[row] for row in self.index.tolist()]
            for name, column in self.source.columns.items()
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """How the whole was made."""
        return self.source.provenance

    @property
    def place(self) -> Place | None:
        """The layer that the whole comes from."""
        return self.source.place


class RowSubset:
    """Some of the rows of a matrix, which are looked up when they are asked for.

    Args:
        rows: all rows, (n, d_model).
        index: the rows that are taken, in order, (k,) int64.

    Attributes:
        shape: (k, d_model).
    """

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self.shape = (len(index), rows.shape[1])
        self._rows, self._index = rows, index

    def __len__(self) -> int:
        """Number of rows k."""
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some of them, by an index (i,) int64 or a slice."""
        return self._rows[self._index[index]]
