"""Some of the rows of a source."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsecode_pl.data.derived import Derived
from sparsecode_pl.data.rerun import Rerun
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.source import Source
from sparsecode_pl.utilities.arguments import check_tensor


class SubsetSource(Derived):
    """Some of the rows of another source, with their columns. Rows that are on disk stay there.

    Args:
        source: all rows.
        index: the rows that are taken, in order, (k,) int64.

    Raises:
        ValueError: the index is not (k,) int64; or, when the rows are asked for, there is no such row.

    Example:
        >>> import torch
        >>> from sparsecode_pl.data import TensorSource
        >>> subset = SubsetSource(TensorSource(torch.eye(4), columns={"word": list("abcd")}), torch.tensor([3, 1]))
        >>> subset.rows[:].argmax(1), subset.columns
        (tensor([3, 1]), {'word': ['d', 'b']})
    """

    def __init__(self, source: Source, index: Tensor) -> None:
        check_tensor(index, "index")
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(f"index is {index.dtype} of shape {tuple(index.shape)}: give row numbers, (k,) int64")
        super().__init__(source)
        self.index = index

    def load(self) -> Rows:
        """The rows taken, (k, d_model)."""
        return RowSubset(self.source.rows, self.index)

    def again(self, other: Source) -> Source:
        """The same rows of another source."""
        return SubsetSource(other, self.index)

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The columns of the whole, at the rows taken."""
        return self.columns_at(self.index)

    @property
    def rerun(self) -> Rerun | None:
        """The model of the whole; what is replaced there are all rows of the text."""
        return self.source.rerun


class RowSubset:
    """Some of the rows of a matrix, which are looked up when they are asked for.

    Args:
        rows: all rows, (n, d_model).
        index: the rows that are taken, in order, (k,) int64.

    Attributes:
        shape: (k, d_model).
    """

    def __init__(self, rows: Rows, index: Tensor) -> None:
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < len(rows)):
            raise ValueError(
                f"index has rows from {int(index.min())} to {int(index.max())}: give rows from 0 to {len(rows) - 1}"
            )
        self.shape = (len(index), rows.shape[1])
        self._rows, self._index = rows, index

    def __len__(self) -> int:
        """Number of rows k."""
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some of them, by an index (i,) int64 or a slice."""
        return self._rows[self._index[index]]
