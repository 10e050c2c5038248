"""Activations that are drawn from a known distribution."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data.module import ActivationDataModule, AnsweredByModule
from sparsecode_pl.data.old_forms import check_asked
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.source import Source, Stream
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.seeding import generator

_ROWS, _STREAM = 2, 3


class SampledSource(Source):
    """Rows that can be drawn at will. A subclass implements `draw`.

    `num_samples` rows are drawn when they are first asked for, and scored. `sparsecode measure` draws the rows of a
    control when its fit begins, and frees them afterwards.

    Args:
        num_samples: rows that are scored.
        stream: draw fresh rows for every training batch, instead of training on the rows that are scored.
        seed: of all draws.
    """

    def __init__(self, num_samples: int, stream: bool, seed: int) -> None:
        self._num_samples = num_samples
        self._streams = stream
        self.seed = seed

    @abstractmethod
    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), that depend on nothing but `random` and the constructor's arguments."""

    def random(self, *key: int) -> torch.Generator:
        """The generator for one purpose, a function of the seed and of `key`."""
        return generator(self.seed, *key)

    @property
    def num_samples(self) -> int:
        """Number of rows that are scored."""
        return self._num_samples

    def load(self) -> Rows:
        """The rows that are scored, (num_samples, d_model)."""
        return self.draw(self.num_samples, self.random(_ROWS))

    def release(self) -> None:
        """Free the rows; they are drawn again when they are asked for."""
        self._rows = None

    @property
    def stream(self) -> Stream | None:
        """Fresh rows for every training batch, if the source was told so."""
        return DrawnStream(self) if self._streams else None


class DrawnStream:
    """The stream of a sampled source.

    Its rows have no values in any column, also where the rows that are scored have some. A source whose fresh rows do
    have values overrides `draw`, `without` and `values`.

    Args:
        source: draws the rows.

    Example:
        >>> class Coin(SampledSource):
        ...     def draw(self, num: int, random: torch.Generator) -> Tensor:
        ...         return torch.randint(2, (num, 1), generator=random).float()
        >>> stream = DrawnStream(Coin(num_samples=10, stream=True, seed=0))
        >>> stream.batch(epoch=0, index=0, size=8, rank=0, world_size=2).shape
        torch.Size([4, 1])
    """

    def __init__(self, source: SampledSource) -> None:
        self.source = source

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        return self.source.draw(num, random)

    def batch(self, epoch: int, index: int, size: int, rank: int, world_size: int) -> Tensor:
        """This process's share of a batch, which each process draws whole."""
        return self.draw(size, self.source.random(_STREAM, epoch, index))[rank::world_size]

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        return self.draw(num, random)

    def without(self, column: str, values: Sequence[str] | Tensor) -> Stream:
        """The stream itself, because none of its rows has a value.

        Raises:
            ValueError: the rows that are scored have no such column.
        """
        self.check_column(column)
        return self

    def values(self, column: str) -> Sequence[str] | Tensor | None:
        """None: the rows have no values.

        Raises:
            ValueError: the rows that are scored have no such column.
        """
        self.check_column(column)
        return None

    def check_column(self, column: str) -> None:
        """Refuse a column that the rows that are scored do not have.

        Raises:
            ValueError: it is one.
        """
        if column not in self.source.columns:
            there = ", ".join(self.source.columns) or "none"
            raise ValueError(
                f"column is {column!r}, but {self.source.label} has no such column (those there are: {there}): give "
                "one of these, or leave it out"
            )

    def check(self, batch_size: int, batches_per_round: int, world_size: int) -> None:
        """There are always enough."""


class SampledActivations(ActivationDataModule):
    """Activations that can be drawn at will: a fixed set of rows, or fresh rows for every batch.

    A plugin implements `draw` and `d_model`, or `sources` with a `SampledSource`. The `num_samples` rows drawn at the
    start are scored; with `stream` the dictionary is never trained on them.

    Args:
        num_samples: rows that are trained on and scored; with `stream` they are only scored.
        stream: draw fresh rows for every training batch.
        batches_per_round: training batches in an epoch; if None, 50, and 240 with `stream`, where rows cost nothing.
        kwargs: the other arguments of `ActivationDataModule`.

    Raises:
        ValueError: there are fewer than 2 samples.
        TypeError: the class implements neither `draw` nor `sources`.
    """

    def __init__(
        self, num_samples: int = 16384, stream: bool = False, batches_per_round: int | None = None, **kwargs: Any
    ) -> None:
        check_arguments(SampledActivations.__init__, locals())
        if batches_per_round is None:
            batches_per_round = 240 if stream else 50
        super().__init__(batches_per_round=batches_per_round, **kwargs)
        cls, base = type(self), SampledActivations
        if cls.draw is base.draw and cls.sources is base.sources:
            raise TypeError(f"{cls.__name__} has no rows: implement `draw`, which returns fresh ones")
        if num_samples < 2:
            raise ValueError(f"num_samples is {num_samples}: give at least 2")
        self.num_samples = num_samples
        self._streams = stream

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_asked(cls, "draw", SampledActivations.sources)

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), that depend on nothing but `random` and the constructor's arguments."""
        if not isinstance(self.source, SampledSource):
            raise TypeError(f"{self.label} comes from a {type(self.source).__name__}: make it a SampledSource")
        return self.source.draw(num, random)

    def sources(self) -> list[Source]:
        """The rows, which `draw` gives unless a plugin says otherwise."""
        return [self._drawn]

    @cached_property
    def _drawn(self) -> Source:
        return _Drawn(self, self.num_samples, self._streams)


class _Drawn(AnsweredByModule, SampledSource):
    """The rows that the `draw` of a data module gives."""

    def __init__(self, data: SampledActivations, num_samples: int, stream: bool) -> None:
        SampledSource.__init__(self, num_samples, stream, data.seed)
        self._draw = data.draw
        self._data = data

    def load(self) -> Rows:
        return SampledSource.load(self)

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        return self._draw(num, random)
