"""Sources that are made from another source."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsecode_pl.data.source import Place, Source, Vocabulary


class Derived(Source):
    """Rows that are made from those of another source, whose name, columns, provenance and place they have.

    Rows that can be made again by themselves are no such source: `stream` and `ground_truth` are not passed on.

    Args:
        source: the rows that these are made from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def again(self, other: Source) -> Source:
        """The same, made from another source that has a row for each row of this one's source."""

    def columns_at(self, index: Tensor) -> dict[str, list[str] | Tensor]:
        """The columns of the source at some rows, (k,) int64."""
        return {
            name: column[index] if isinstance(column, Tensor) else [column[row] for row in index.tolist()]
            for name, column in self.source.checked_columns.items()
        }

    def release(self) -> None:
        """Free what the source can make again."""
        self.source.release()

    @property
    def label(self) -> str:
        """The name of the source."""
        return self.source.label

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return self.source.d_model

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The columns of the source."""
        return self.source.columns

    @property
    def provenance(self) -> dict[str, Any]:
        """How the source was made."""
        return self.source.provenance

    @property
    def place(self) -> Place | None:
        """The layer that the source comes from."""
        return self.source.place

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens of the source."""
        return self.source.vocabulary

    def output_logits(self, directions: Tensor) -> Tensor | None:
        """What directions at the source's layer add to the output logits, (k, V)."""
        return self.source.output_logits(directions)
