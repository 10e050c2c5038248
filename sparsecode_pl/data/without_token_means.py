"""What is left of rows once their token is known."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from sparsecode_pl.data.derived import Derived
from sparsecode_pl.data.distinct import distinct_rows
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.source import Place, Source
from sparsecode_pl.data.split import Split, column, follow, same_columns
from sparsecode_pl.data.token_means import TokenMeans

# With a smaller share of the variance within token types, what is left is rounding error.
_LEAST_SHARE_WITHIN = 1e-6
_SUFFIX = " without token means"


class WithoutTokenMeans(Derived):
    """Rows of another source, each without the mean of the training rows of its token in other documents.

    What is held out as a whole, documents or single rows, is also left out of the means (see `TokenMeans`). Rows of
    tokens that are in training rows of fewer than two documents are left out, and so are all unseen tokens: nothing is
    known of them, so they would keep all that the token adds. In 20,000 tokens of Wikipedia, they would have 40 to 70 %
    of what is left. Rows that are on disk stay there.

    Args:
        source: all rows.
        by: its column of token types.
        split: of the source, whose training rows make the table of means; or what gives it for the source, which is
            asked for when the rows are.

    Raises:
        ValueError: the source is a stream. When the rows are asked for: there is no such column, it has one value, or
            nothing would be left, because no token is in two documents, or all rows of a token are equal.

    Example:
        >>> import torch
        >>> from sparsecode_pl.data import Split, TensorSource
        >>> source = TensorSource(torch.tensor([[1.0], [3.0], [5.0], [9.0], [4.0]]), columns={"word": list("aabba")})
        >>> rows = {"train": torch.arange(4), "heldout": torch.tensor([4])}
        >>> left = WithoutTokenMeans(source, "word", Split(rows, torch.arange(5), torch.arange(5), 5, 4))
        >>> left.label, left.split.rows["heldout"], len(left.rows)
        ('activations without token means', tensor([4]), 5)
    """

    def __init__(self, source: Source, by: str, split: Split | Callable[[Source], Split]) -> None:
        super().__init__(source)
        if source.stream is not None:
            raise ValueError(
                f"stream is true, but remove is 'token_mean', and the token means of {source.label} are those of rows "
                "that are kept: leave out one of the two"
            )
        self.by = by
        self._given = split

    def load(self) -> Rows:
        """The rows that are left, (k, d_model)."""
        return RowsWithoutMeans(self.means, self.index)

    @cached_property
    def means(self) -> TokenMeans:
        """The token means."""
        types = column(self.source.checked_columns, self.by, "remove is 'token_mean', and unseen_by")
        train, label = self._whole.rows["train"], self.source.label
        means = TokenMeans(self.source.rows, types, train, self._whole.groups)
        if not means.repeated[train].any():
            raise ValueError(
                f"remove is 'token_mean', but no {self.by} of {label} has training rows in two groups (documents, or "
                "what else is held out as a whole), so that nothing would be left: leave remove out, or name another "
                "column with unseen_by or heldout_by"
            )
        if means.share_within < _LEAST_SHARE_WITHIN:
            raise ValueError(
                f"remove is 'token_mean', but in {label} all rows of the same {self.by} are equal, so that nothing "
                "would be left: leave this layer out, or leave remove out"
            )
        return means

    @cached_property
    def index(self) -> Tensor:
        """Which rows of the source are kept, ascending, (k,) int64."""
        return self.means.repeated.nonzero().flatten()

    @cached_property
    def _whole(self) -> Split:
        """The split of the source."""
        return self._given if isinstance(self._given, Split) else self._given(self.source)

    @cached_property
    def split(self) -> Split:
        """The split of the rows that are kept, each on the side where it is in the source."""
        whole, kept, classes = self._whole, self.means.repeated, distinct_rows(self.rows)
        among = kept.long().cumsum(0) - 1
        sets = {kind: among[rows[kept[rows]]] for kind, rows in whole.rows.items()}
        num_types = len(self.means.types[self.index].unique())
        return replace(
            whole,
            rows={kind: rows for kind, rows in sets.items() if len(rows)},
            buckets=whole.buckets[self.index],
            groups=whole.groups[self.index],
            num_distinct=len(classes.unique()),
            distinct_trained=len(classes[sets["train"]].unique()),
            num_types=num_types,
            types_trained=num_types,
            seen_share=1.0,
            copies=len(self.index) - sum(map(len, sets.values())),
        )

    def again(self, other: Source) -> Source:
        """Another source without its token means, with the same split if its columns are the same."""
        alike = same_columns(other.columns, self.source.columns)
        return WithoutTokenMeans(other, self.by, partial(_followed, self._whole) if alike else self._given)

    @property
    def label(self) -> str:
        """The name of the source, and what was removed."""
        return self.source.label + _SUFFIX

    @property
    def place(self) -> Place | None:
        """The layer, under a name for the model that says what was removed, so that both can stand in one picture."""
        place = self.source.place
        return None if place is None else Place(place.model + _SUFFIX, place.layer)

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The columns of the source, at the rows that are kept."""
        return self.columns_at(self.index)

    @property
    def provenance(self) -> dict[str, Any]:
        """How the source was made, and what was removed."""
        return self.source.provenance | {"removed": "token_mean"}


def _followed(split: Split, source: Source) -> Split:
    """A split for the rows of another source."""
    return follow(split, source.rows)


class RowsWithoutMeans:
    """Rows without the means of their tokens, which are looked up when they are asked for.

    Args:
        means: of all rows.
        index: the rows that are taken, in order, (k,) int64.

    Attributes:
        shape: (k, d_model).
    """

    def __init__(self, means: TokenMeans, index: Tensor) -> None:
        self.shape = (len(index), means.rows.shape[1])
        self._means, self._index = means, index

    def __len__(self) -> int:
        """Number of rows k."""
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        """Some of them, float32, by an index (i,) int64 or a slice."""
        return self._means.residual(self._index[index])
