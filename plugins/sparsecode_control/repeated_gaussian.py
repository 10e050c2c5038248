"""Gaussian noise with the moments of other data, repeated as the tokens of that data are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_control.matched_gaussian import MatchedGaussianSource
from sparsecode_control.of_rows import OfRows
from sparsecode_pl.data import DrawnStream, Source, Stream, check_arguments, distinct_rows

_DEFAULT = "token_id"
_VECTORS = 22


class RepeatedGaussian(OfRows):
    """One vector of the matched Gaussian for each distinct token, in the order of the data: noise that repeats.

    The vectors are drawn from a Gaussian with the mean and the covariance of the data, in which each token weighs the
    same. (If each row did, the few most frequent tokens would dominate the covariance, and rare tokens would be drawn
    from a flatter cloud than theirs.) Every row with the same token is the same vector. The column `token_id` says
    which rows are of the same token; without such a column, rows that are equal are.

    Text repeats tokens, and a dictionary with an atom for each frequent token gives sparse codes of anything, noise
    included. If the data scores like this control, its score comes from repetition. With `stream`, a batch has the
    vectors of the tokens of random rows of the data.

    Args:
        by: another column that says which rows are alike.
        stream: draw fresh rows for every training batch; as the measured data does if it is not given.
        seed: of all draws.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from sparsecode_pl.data import TensorSource
        >>> source = TensorSource(torch.randn(4, 2), columns={"token_id": torch.tensor([7, 9, 7, 7])})
        >>> rows = RepeatedGaussian().of(source).rows
        >>> (rows[:, None] == rows).all(2).int()
        tensor([[1, 0, 1, 1],
                [0, 1, 0, 0],
                [1, 0, 1, 1],
                [1, 0, 1, 1]], dtype=torch.int32)
    """

    rules_out = "Rules out that repeated tokens alone explain the score, whatever vectors they have."

    def __init__(self, by: str | None = None, stream: bool | None = None, seed: int = 0) -> None:
        check_arguments(RepeatedGaussian.__init__, locals())
        super().__init__(stream=stream, seed=seed)
        self.by = by

    @property
    def label(self) -> str:
        """The name of the class, and the column if it was given."""
        return super().label if self.by is None else f"{super().label} by {self.by}"

    def make(self, source: Source, num_samples: int, stream: bool) -> Source:
        """The repeated noise.

        Raises:
            ValueError: the source has no column of the name given, or the column has one value.
        """
        columns = source.checked_columns
        by = _DEFAULT if self.by is None and _DEFAULT in columns else self.by
        if by is not None:
            if by not in columns:
                cure = f"give one of {', '.join(columns)}, or leave it out" if columns else "it has none: leave it out"
                raise ValueError(f"by is {by!r}, but {source.label} has no such column: {cure}")
            if int(_classes(columns[by]).max()) == 0:
                raise ValueError(
                    f"by is {by!r}, and all {num_samples} rows of {source.label} have the same value there, so they "
                    "would be one vector: give another column"
                )
        return RepeatedGaussianSource(source, self.label, num_samples, stream, self.seed, by)


class RepeatedGaussianSource(MatchedGaussianSource):
    """Rows of Gaussian noise with the moments of a source, one vector for each token.

    Args:
        source: the rows whose moments and tokens the noise has.
        label: name in tables and pictures.
        num_samples: as many as the source has.
        stream: draw fresh rows for every training batch.
        seed: of all draws.
        by: the column that says which rows are alike; None takes rows that are equal.
    """

    _tokens: tuple[Tensor, Tensor] | None = None
    _kinds: Tensor | None = None

    def __init__(self, source: Source, label: str, num_samples: int, stream: bool, seed: int, by: str | None) -> None:
        super().__init__(source, label, num_samples, stream, seed)
        self._by = by

    @property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """The vector of each token, (k, d_model) float32, and which token each row is, (n,) int64."""
        if self._tokens is None:
            classes = self.kinds
            self._tokens = super().draw(int(classes.max()) + 1, self.random(_VECTORS)), classes
        return self._tokens

    @property
    def kinds(self) -> Tensor:
        """Which token each row is, (n,) int64."""
        if self._kinds is None:
            column = None if self._by is None else self.source.checked_columns[self._by]
            self._kinds = distinct_rows(self.source.rows) if column is None else _classes(column)
        return self._kinds

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model)."""
        vectors, classes = self.tokens
        return vectors[classes]

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """The vectors of the tokens of random rows, with replacement, (num, d_model)."""
        return self.draw_among(torch.arange(self.num_samples), num, random)

    def draw_among(self, index: Tensor, num: int, random: torch.Generator) -> Tensor:
        """The same for random rows among those of the numbers `index`, (k,) int64."""
        vectors, classes = self.tokens
        return vectors[classes[index[torch.randint(len(index), (num,), generator=random)]]]

    @property
    def stream(self) -> Stream | None:
        """Fresh rows for every training batch, if the source was told so."""
        return None if super().stream is None else RepeatedStream(self, torch.arange(self.num_samples))

    def release(self) -> None:
        """Free the rows, the vectors and the moments."""
        super().release()
        self._tokens = self._kinds = None


class RepeatedStream(DrawnStream):
    """The vectors of the tokens of random rows, without end.

    Args:
        source: the noise.
        index: the rows that are drawn from, (k,) int64.
    """

    def __init__(self, source: RepeatedGaussianSource, index: Tensor) -> None:
        super().__init__(source)
        self._repeated, self._index = source, index

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        return self._repeated.draw_among(self._index, num, random)

    def without(self, column: str, values: Sequence[str] | Tensor) -> "RepeatedStream":
        """The stream without the rows that have one of these values in a column.

        Raises:
            ValueError: there is no such column, or all rows have one of these values.
        """
        left = self._index[torch.from_numpy(~np.isin(self._entries(column), values))]
        if len(left) == 0:
            raise ValueError(f"values has every value of column {column!r}, so no row is left: leave fewer out")
        return RepeatedStream(self._repeated, left)

    def values(self, column: str) -> Sequence[str] | Tensor:
        """The values of a column, ascending.

        Raises:
            ValueError: there is no such column.
        """
        found = np.unique(self._entries(column))
        return found.tolist() if found.dtype.kind == "U" else torch.from_numpy(found)

    def _entries(self, column: str) -> NDArray[Any]:
        """The entries of a column at the rows that are drawn from."""
        self.check_column(column)
        entries: NDArray[Any] = np.asarray(self.source.checked_columns[column])[self._index.numpy()]
        return entries


def _classes(column: list[str] | Tensor) -> Tensor:
    """The number of each entry's value, in the order of the values, (n,) int64."""
    if isinstance(column, Tensor):
        classes: Tensor = column.unique(return_inverse=True)[1]
        return classes
    return torch.from_numpy(np.unique(np.array(column), return_inverse=True)[1])
