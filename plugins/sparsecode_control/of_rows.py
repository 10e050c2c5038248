"""Controls that are drawn from the rows of the measured data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsecode_pl.data import Control, SampledSource, Source, check_arguments, control_random


class OfRows(Control, ABC):
    """A control that is drawn from the rows of the measured data. A subclass says with `make` how.

    With as many rows as the measured data, it has that data's columns too, so that its rows are split in the same way.
    With another number it has none.

    Args:
        num_samples: rows; as many as the measured data has if it is not given.
        stream: draw fresh rows for every training batch; as the measured data does if it is not given.
        seed: of all draws.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, num_samples: int | None = None, stream: bool | None = None, seed: int = 0) -> None:
        check_arguments(OfRows.__init__, locals())
        if num_samples is not None and num_samples < 2:
            raise ValueError(f"num_samples is {num_samples}: give at least 2")
        if seed < 0:
            raise ValueError(f"seed is {seed}: give an integer of at least 0")
        self.num_samples = num_samples
        self.stream = stream
        self.seed = seed

    @abstractmethod
    def make(self, source: Source, num_samples: int, stream: bool) -> Source:
        """The control, drawn from a source."""

    def of(self, source: Source) -> Source:
        """The control of given rows, which are not looked at before it is drawn.

        Raises:
            ValueError: an argument does not fit the source.
        """
        num_samples = len(source.rows) if self.num_samples is None else self.num_samples
        return self.make(source, num_samples, source.stream is not None if self.stream is None else self.stream)


class OfRowsSource(SampledSource):
    """Rows that are drawn from those of another source, with its columns if there are as many.

    Args:
        source: the other.
        label: name in tables and pictures.
        num_samples: rows that are scored.
        stream: draw fresh rows for every training batch.
        seed: of all draws.
    """

    def __init__(self, source: Source, label: str, num_samples: int, stream: bool, seed: int) -> None:
        super().__init__(num_samples, stream, seed)
        self.source = source
        self._label = label

    def random(self, *key: int) -> torch.Generator:
        """A generator that shares no numbers with the source's, even if the seeds are equal."""
        return control_random(self.seed, self._label, *key)

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """Those of the source, if it has as many rows; else none."""
        return self.source.columns if self.num_samples == len(self.source.rows) else {}

    @property
    def label(self) -> str:
        """The name given."""
        return self._label

    @property
    def d_model(self) -> int:
        """Width of the source."""
        return self.source.d_model
