"""What rows there are, and what is known about them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsecode_pl.data.checks import check_activations, check_columns
from sparsecode_pl.data.rerun import Rerun
from sparsecode_pl.data.rows import Rows


@dataclass(frozen=True)
class GroundTruth:
    """The known answer of synthetic data (paper, section 4.1).

    Attributes:
        features: the true features, unit rows, (num_features, d_model).
        codes: the true codes of all rows, (n, num_features), sparse CSR.
        half_active: a/2, half the mean number of active features: the paper's correct value of S1, if features are
            equally frequent and independent and coefficients uniform; None for other data.
    """

    features: Tensor
    codes: Tensor
    half_active: float | None


@dataclass(frozen=True)
class Place:
    """The layer of a model that activations come from.

    Attributes:
        model: the model's name.
        layer: the layer's name, such as "3" for a hidden state.
    """

    model: str
    layer: str


class Stream(Protocol):
    """Training rows without end, fresh for every batch."""

    def batch(self, epoch: int, index: int, size: int, rank: int, world_size: int) -> Tensor:
        """One process's share of a training batch, a pure function of the arguments.

        Args:
            epoch: the round.
            index: number of the batch in it.
            size: rows of the batch over all processes, a multiple of `world_size`.
            rank: the process.
            world_size: number of processes.

        Returns:
            (size / world_size, d_model) float32.
        """

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Some rows, (num, d_model) float32, chosen by `random` alone."""

    def without(self, column: str, values: Sequence[str] | Tensor) -> "Stream":
        """A stream like this one whose rows never have one of these values in a column.

        Args:
            column: one of the source's columns.
            values: what is left out, k numbers or strings, as the column has.

        Raises:
            ValueError: the rows have no such column, or nothing is left. It may be raised by `check` instead.
        """

    def values(self, column: str) -> Sequence[str] | Tensor | None:
        """The values that rows of the stream may have in a column, ascending, numbers or strings; None if unknown.

        Raises:
            ValueError: the rows have no such column.
        """

    def check(self, batch_size: int, batches_per_round: int, world_size: int) -> None:
        """Find out before training whether the stream can give what will be asked for.

        Args:
            batch_size: rows of a batch over all processes.
            batches_per_round: batches of an epoch.
            world_size: number of processes.

        Raises:
            ValueError: it cannot.
        """


class Vocabulary(Protocol):
    """The tokens that the numbers in a column of token types stand for."""

    @property
    def strings(self) -> Sequence[str]:
        """The tokens as they stand in running text, with the space before a word, by their numbers, (V,)."""

    def split(self, word: str) -> list[int]:
        """The numbers of the tokens that a word of running text is split into."""


class Source(ABC):
    """Rows of activations, and what is known about them.

    A subclass implements `load` and overrides the properties that it can answer. How the rows are split, shuffled and
    loaded is not its business: `ActivationDataModule` does that. A source can be pickled, without models, trainers or
    running iterators.

    Example:
        >>> class Ones(Source):
        ...     def load(self) -> Tensor:
        ...         return torch.ones(3, 2)
        >>> Ones().rows.shape, Ones().label, Ones().columns
        (torch.Size([3, 2]), 'Ones', {})
    """

    _rows: Rows | None = None

    @abstractmethod
    def load(self) -> Rows:
        """All rows, (n, d_model). A tensor may have any floating dtype; it is checked and kept as float32."""

    @property
    def rows(self) -> Rows:
        """All rows, (n, d_model) float32; loaded and checked when they are first asked for.

        Raises:
            TypeError: the rows are not floating-point.
            ValueError: there are fewer than two rows, they are not a matrix, or some values are not finite.
        """
        if self._rows is None:
            self._rows = check_activations(self.load(), source=self.label)
        return self._rows

    def release(self) -> None:  # noqa: B027 - there may be nothing to free
        """Free what can be made again at little cost. By default nothing: rows that were loaded are kept."""

    @property
    def label(self) -> str:
        """The name of this data in tables and pictures."""
        return type(self).__name__

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return self.rows.shape[1]

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """Columns with one entry for each row, such as the token; empty if there are none.

        A list, an array or a tensor of strings or numbers will do; they are checked where they are used.
        """
        return {}

    @property
    def checked_columns(self) -> dict[str, list[str] | Tensor]:
        """The columns, each a list of strings or a tensor, (n,).

        Raises:
            ValueError: a column has not one entry for each row.
            TypeError: a column holds neither numbers nor strings.
        """
        columns = self.columns
        return check_columns(columns, len(self.rows), source=self.label) if columns else {}

    @property
    def provenance(self) -> dict[str, Any]:
        """How the rows were made, in plain types; empty if that is unknown."""
        return {}

    @property
    def place(self) -> Place | None:
        """The layer of a model that the rows come from, if they do."""
        return None

    @property
    def ground_truth(self) -> GroundTruth | None:
        """The known answer, if there is one."""
        return None

    @property
    def stream(self) -> Stream | None:
        """Fresh rows to train on; None if the dictionary is trained on `rows`."""
        return None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens that the column `token_id` numbers; None if the rows are of no text, or it cannot be loaded."""
        return None

    def output_logits(self, directions: Tensor) -> Tensor | None:
        """What directions at this layer add to the logits of a language model's output tokens.

        Args:
            directions: (k, d_model).

        Returns:
            (k, V), up to a constant factor for each direction; None where the layer does not write to the output, or
            the model has no output embedding.
        """
        return None

    @property
    def rerun(self) -> Rerun | None:
        """The model, to be run with what passes at this layer replaced; None if the rows come from no such model."""
        return None
