"""Noise: data in its own right, and a control of other data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data import SampledActivations, SampledSource, Source, check_arguments, control_random

_RAW = 20


@dataclass(frozen=True)
class NoiseSettings:
    """What the rows of noise depend on.

    Attributes:
        name: class of the noise, which decides the draws along with the seed.
        label: name in tables and pictures.
        d_model: width.
        num_samples: rows that are scored.
        stream: draw fresh rows for every training batch.
        seed: of all draws.
        own: whether the noise is data in its own right rather than a control.
        columns: one entry for each of the rows that are scored, by name.
    """

    name: str
    label: str
    d_model: int
    num_samples: int
    stream: bool
    seed: int
    own: bool
    columns: Mapping[str, list[str] | Tensor]


class NoiseSource(SampledSource):
    """Random rows of a given width."""

    def __init__(self, settings: NoiseSettings) -> None:
        super().__init__(settings.num_samples, settings.stream, settings.seed)
        self._settings = settings

    def random(self, *key: int) -> torch.Generator:
        """A generator that shares no numbers with other data, nor with the same noise in its other role."""
        return control_random(self.seed, self._settings.name, *key, own=self._settings.own)

    @property
    def label(self) -> str:
        """The name given."""
        return self._settings.label

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return self._settings.d_model

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """Those of the measured data, if this is a control with as many rows; else none."""
        return self._settings.columns


class UnitNormSource(NoiseSource):
    """Noise times the one constant that gives the rows that are scored an average L2 norm of 1.

    A subclass implements `draw_raw`. Streamed rows are multiplied by the same constant as the scored ones.
    """

    _scale: float | None = None

    @abstractmethod
    def draw_raw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows before scaling, (num, d_model)."""

    @property
    def scale(self) -> float:
        """The constant."""
        if self._scale is None:
            self._scale = 1 / float(self._raw_rows().norm(dim=1).mean(dtype=torch.float64))
        return self._scale

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model), of average L2 norm 1."""
        return self._raw_rows() * self.scale

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        return self.draw_raw(num, random) * self.scale

    def _raw_rows(self) -> Tensor:
        return self.draw_raw(self.num_samples, self.random(_RAW))


class Noise(SampledActivations, ABC):
    """Noise of one kind. A subclass says with `make` which.

    As a control, it has the width, the number of rows and the streaming of the measured data, unless it was given its
    own. With as many rows as the measured data, it has that data's columns too, so that its rows are split in the same
    way. With another number it has none.

    Args:
        d_model: width; 256 if it is not given, or that of the measured data.
        num_samples: rows; 16,384 if it is not given, or as many as the measured data has.
        stream: draw fresh rows for every training batch; not if it is not given, or as the measured data does.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: `d_model` is below 1.
    """

    def __init__(
        self, d_model: int | None = None, num_samples: int | None = None, stream: bool | None = None, **kwargs: Any
    ) -> None:
        check_arguments(Noise.__init__, locals())
        super().__init__(num_samples=16384 if num_samples is None else num_samples, stream=bool(stream), **kwargs)
        if d_model is not None and d_model < 1:
            raise ValueError(f"d_model is {d_model}: give at least 1")
        self._given = d_model, num_samples, stream
        self._own: Source | None = None

    @abstractmethod
    def make(self, settings: NoiseSettings) -> NoiseSource:
        """The rows."""

    @property
    def label(self) -> str:
        """The name of the class."""
        return type(self).__name__

    def sources(self) -> list[Source]:
        """The noise as data in its own right."""
        if self._own is None:
            self._own = self._make(256, 16384, False, own=True, columns={})
        return [self._own]

    def of(self, source: Source) -> Source:
        """The noise as a control.

        Raises:
            ValueError: it was given a width that is not the source's.
        """
        if self._given[0] not in (None, source.d_model):
            raise ValueError(
                f"d_model is {self._given[0]}, but {source.label} has width {source.d_model}: leave d_model out"
            )
        num_samples = len(source.rows)
        columns = source.columns if self._given[1] in (None, num_samples) else {}
        return self._make(source.d_model, num_samples, source.stream is not None, own=False, columns=columns)

    def _make(
        self, d_model: int, num_samples: int, stream: bool, own: bool, columns: Mapping[str, list[str] | Tensor]
    ) -> Source:
        """Noise of the settings that were given, or else of these."""
        given = self._given
        return self.make(
            NoiseSettings(
                name=type(self).__name__,
                label=self.label,
                d_model=d_model if given[0] is None else given[0],
                num_samples=num_samples if given[1] is None else given[1],
                stream=stream if given[2] is None else given[2],
                seed=self.seed,
                own=own,
                columns=columns,
            )
        )
