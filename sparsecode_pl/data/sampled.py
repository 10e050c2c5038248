"""Activations drawn from a known distribution."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data.base import ActivationDataModule
from sparsecode_pl.utilities.seeding import generator

_ROWS, _STREAM = 2, 3


class SampledActivations(ActivationDataModule):
    """Activations that can be drawn at will: a fixed set of them, or fresh ones for every batch.

    A plugin implements `draw`. The `num_samples` rows drawn at the start are what is scored; with `stream` the
    dictionary never trains on them.

    Args:
        num_samples: rows that are trained on and scored; with `stream` only scored.
        stream: draw fresh rows for every training batch.
        batches_per_round: training batches an epoch; if None, 50, and 240 with `stream`, whose rows cost nothing.
        kwargs: the other arguments of `ActivationDataModule`.

    Raises:
        ValueError: fewer than 2 samples.
    """

    def __init__(
        self, num_samples: int = 16384, stream: bool = False, batches_per_round: int | None = None, **kwargs: Any
    ) -> None:
        if batches_per_round is None:
            batches_per_round = 240 if stream else 50
        super().__init__(batches_per_round=batches_per_round, **kwargs)
        if num_samples < 2:
            raise ValueError(f"num_samples is {num_samples}: give at least 2")
        self.num_samples = num_samples
        self.stream = stream

    @abstractmethod
    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), that depend on nothing but `random` and the constructor's arguments."""

    def random(self, *key: int) -> torch.Generator:
        """A generator for one purpose: a function of the seed and of `key`."""
        return generator(self.seed, *key)

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model)."""
        return self.draw(self.num_samples, self.random(_ROWS))

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Training rows chosen at random, (num, d_model): fresh ones with `stream`."""
        return self.draw(num, random) if self.stream else super().sample(num, random)

    def train_batch(self, epoch: int, index: int) -> Tensor:
        """The global training batch: fresh rows with `stream`, else rows of the fixed set."""
        if self.stream:
            return self.draw(self.global_batch(), self.random(_STREAM, epoch, index))
        return super().train_batch(epoch, index)
