"""The text that rows are of: the tokens around each row."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.data import TOKEN, Source, Vocabulary

Ints = NDArray[np.integer[Any]]


class RowText:
    """What is known of the text that rows are of.

    Rows of one sequence stand together, in the order of the text. They are told by the columns `position` and
    `document`: see `TransformerActivations`. Without both, each row stands alone.

    Args:
        source: the rows.
        vocabulary: the tokens that their column of token types numbers, where the source does not know them.

    Attributes:
        num_rows: n.
        token_id: number of each row's token, (n,) integers; None if there are none.
        document: number of each row's document, (n,) integers; None if there are none.
    """

    def __init__(self, source: Source, vocabulary: Vocabulary | None = None) -> None:
        self._source, self._vocabulary = source, vocabulary
        columns = source.checked_columns
        self.num_rows = len(source.rows)
        self.token_id = _numbers(columns, TOKEN)
        self.document = _numbers(columns, "document")
        self._position = _numbers(columns, "position")
        self._document_position = _numbers(columns, "document_position")
        words = columns.get("token")
        self._words: list[str] | None = words if isinstance(words, list) else None
        if self.token_id is None and self._words is not None:
            self.token_id = np.unique(np.array(self._words), return_inverse=True)[1].astype(np.int64)

    @property
    def has_words(self) -> bool:
        """Whether the tokens of the rows are known, by their text or by their number."""
        return self.token_id is not None

    @property
    def has_context(self) -> bool:
        """Whether there is text around the rows."""
        return self.has_words and (self._position is not None or self.document is not None)

    @cached_property
    def _types(self) -> tuple[Ints, Ints]:
        numbers = np.zeros(0, np.int64) if self.token_id is None else self.token_id
        types, kind = np.unique(numbers, return_inverse=True)
        return types, kind.astype(np.int32)

    @property
    def types(self) -> Ints:
        """The numbers of the tokens that there are, ascending, (t,)."""
        return self._types[0]

    @property
    def kind(self) -> Ints:
        """Which of `types` the token of each row is, (n,) int32."""
        return self._types[1]

    @cached_property
    def sequence(self) -> Ints:
        """Number of each row's sequence, ascending, (n,); each row has its own where there is no text around it."""
        if not self.has_context:
            return np.arange(self.num_rows, dtype=np.int32)
        new = np.zeros(self.num_rows, bool)
        step = None if self._position is None else np.diff(self._position)
        if step is not None:
            new[1:] |= step <= 0
        if self.document is not None:
            changed = np.diff(self.document) != 0
            if self._position is not None and self._document_position is not None and step is not None:
                # Within a document both positions grow alike. Where documents are packed, a sequence goes on with a
                # document that begins after the row before.
                begins_later = self._position[1:] - self._document_position[1:] > self._position[:-1]
                new[1:] |= np.where(changed, ~begins_later, np.diff(self._document_position) != step)
            else:
                new[1:] |= changed
        return np.cumsum(new, dtype=np.int32)

    @cached_property
    def after_gap(self) -> NDArray[np.bool_]:
        """Whether tokens between a row and the one before it, in the same sequence, are no rows, (n,)."""
        gap = np.zeros(self.num_rows, bool)
        if self.has_context and self._position is not None:
            gap[1:] = (np.diff(self._position) > 1) & (np.diff(self.sequence) == 0)
        return gap

    @cached_property
    def _strings(self) -> Sequence[str] | None:
        if self._words is not None:
            return None
        vocabulary = self._source.vocabulary or self._vocabulary
        return None if vocabulary is None else vocabulary.strings

    def words(self, rows: slice) -> list[str]:
        """The tokens of some rows as they stand in running text; see `token`."""
        if self._words is not None:
            return self._words[rows]
        return [] if self.token_id is None else [self.token(number) for number in self.token_id[rows].tolist()]

    def token(self, number: int) -> str:
        """The text of a token, or "#" and its number if that is not known."""
        if self._words is not None and self.token_id is not None:
            found = self._first_row.get(number)
            return f"#{number}" if found is None else self._words[found]
        strings = self._strings
        return f"#{number}" if strings is None or not 0 <= number < len(strings) else strings[number]

    def number(self, word: str) -> int | None:
        """The number of a token by its text, with or without the space before it; None if no row is of it."""
        texts = {number: self.token(number) for number in self._first_row}
        found = [number for number, text in texts.items() if text.strip() == word.strip()]
        # The token that begins a word comes before one that goes on with it.
        return max(found, key=lambda number: len(texts[number]), default=None)

    @cached_property
    def _first_row(self) -> dict[int, int]:
        if self.token_id is None:
            return {}
        numbers, rows = np.unique(self.token_id, return_index=True)
        return dict(zip(numbers.tolist(), rows.tolist(), strict=True))


def _numbers(columns: Mapping[str, list[str] | Tensor], name: str) -> Ints | None:
    """A column as integers; None if there is no such column. Texts are numbered in their order."""
    if name not in columns:
        return None
    column = columns[name]
    if isinstance(column, Tensor):
        numbers: Ints = column.cpu().numpy()
        return numbers if np.issubdtype(numbers.dtype, np.integer) else numbers.astype(np.int64)
    return np.unique(np.array(column), return_inverse=True)[1].astype(np.int64)
