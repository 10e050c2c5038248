"""Data known not to be sparse, which the score of real data is held against."""

import copy
from abc import abstractmethod
from functools import cached_property
from typing import Any
from zlib import crc32

import torch

from sparsecode_pl.data.base import ActivationDataModule
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.sampled import SampledActivations
from sparsecode_pl.utilities.seeding import generator


class Control(ActivationDataModule):
    """What data is compared with. `sparsecode measure` asks each control for its rendering `of` each measured layer."""

    #: Whether the control is in the dictionary, which stays as it is drawn at random, rather than in the data.
    random_dictionary: bool = False

    @abstractmethod
    def of(self, source: ActivationDataModule) -> ActivationDataModule:
        """The control of given data; this object stays as it is, and can be asked again.

        Raises:
            ValueError: there can be none of this data.
        """

    @property
    def d_model(self) -> int:
        """Width of the activations.

        Raises:
            ValueError: always, unless the control has data of its own.
        """
        raise ValueError(self._no_data())

    def load(self) -> Rows:
        """The rows.

        Raises:
            ValueError: always, unless the control has data of its own.
        """
        raise ValueError(self._no_data())

    def _no_data(self) -> str:
        return f"{type(self).__name__} has no data of its own: list it under controls of `sparsecode measure`"


class ControlActivations(SampledActivations, Control):
    """Random data made to be compared with other data.

    Beside a source, a control has the source's width, number of samples and streaming, unless told otherwise, and
    always its batches, rounds and split: a comparison is fair only if both are learnt alike. `sparsecode measure`
    attaches the measured data to each control that names no source.

    Args:
        source: the data that this is a control of.
        d_model: width; the source's, or 256 without one.
        num_samples: rows; the source's, or 16,384 without one.
        stream: draw fresh rows for every training batch; as the source does, or not without one.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: `d_model` is below 1 or is not the source's.
    """

    def __init__(
        self,
        source: ActivationDataModule | None = None,
        d_model: int | None = None,
        num_samples: int | None = None,
        stream: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples=16384 if num_samples is None else num_samples, stream=bool(stream), **kwargs)
        if d_model is not None and d_model < 1:
            raise ValueError(f"d_model is {d_model}: give at least 1")
        self.source: ActivationDataModule | None = None
        self._d_model = d_model
        self._own_num_samples = num_samples is not None
        self._own_stream = stream is not None
        if source is not None:
            self.attach(source)

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return 256 if self._d_model is None else self._d_model

    def random(self, *key: int) -> torch.Generator:
        """A generator for one purpose, which shares no numbers with the source's even where the seeds are equal."""
        return generator(self.seed, crc32(type(self).__name__.encode()), 1 if self.source is None else 2, *key)

    def of(self, source: ActivationDataModule) -> ActivationDataModule:
        """A copy that has this source; the control itself where it names one of its own."""
        if self.source is not None:
            return self
        twin = copy.copy(self)
        twin.attach(source)
        return twin

    def attach(self, source: ActivationDataModule) -> None:
        """Make this a control of `source`.

        Raises:
            ValueError: this control has a width of its own, and it is not the source's.
        """
        if self._d_model not in (None, source.d_model):
            raise ValueError(
                f"d_model is {self._d_model}, but {source.label} has width {source.d_model}: leave d_model out"
            )
        for cls in type(self).__mro__:  # what was computed for another source, or for none, holds no more
            for name, value in vars(cls).items():
                if isinstance(value, cached_property):
                    self.__dict__.pop(name, None)
        self._permutation = None
        self.source = source
        self._d_model = source.d_model
        if not self._own_num_samples:
            self.num_samples = len(source.rows)
        if not self._own_stream:
            self.stream = source.stream
        self.batch_size = source.batch_size
        self.batches_per_round = source.batches_per_round
        self.val_split = source.val_split
