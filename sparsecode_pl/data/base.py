"""The contract of every source of activations."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from sparsecode_pl.data.checks import check_activations
from sparsecode_pl.data.loader import RowBatches, TrainingBatches, batch_loader
from sparsecode_pl.data.rows import Rows, row_blocks
from sparsecode_pl.utilities.seeding import generator

# One stream of random numbers for each purpose, so that none disturbs another.
_SPLIT, _SHUFFLE = 0, 1


@dataclass(frozen=True)
class Statistics:
    """What a dictionary needs to know of the training rows before it sees them.

    Attributes:
        mean: their mean, (d_model,) float64.
        mean_norm: mean L2 norm of the centred rows.
    """

    mean: Tensor
    mean_norm: float


@dataclass(frozen=True)
class GroundTruth:
    """The known answer of synthetic data (paper, section 4.1).

    Attributes:
        features: the true features, unit rows, (num_features, d_model).
        codes: the true codes of all rows, (n, num_features), sparse CSR.
        half_active: a/2, half the mean number of active features: the paper's correct value of S1.
    """

    features: Tensor
    codes: Tensor
    half_active: float


@dataclass(frozen=True)
class Place:
    """Where in which model activations come from.

    Attributes:
        model: the model's name.
        layer: the layer's name, such as "3" for a hidden state.
    """

    model: str
    layer: str


class ActivationDataModule(LightningDataModule, ABC):
    """Activations, one row a sample: what a plugin extends.

    A plugin implements `load`. It gets from here: checks, the split into training and held-out rows, shuffling,
    loaders that share the rows out over ranks with equal batch counts, and statistics. Each training epoch is one
    *round* of `batches_per_round` batches, drawn without replacement and passing over the rows as often as that
    takes. Every batch is a pure function of `seed`, epoch and index, so the same configuration gives the same batches
    on one process or eight, and a run resumed at an epoch's end goes on as if it had not stopped.

    Args:
        batch_size: rows an optimiser step, over all ranks together (rounded down to a multiple of their number).
        batches_per_round: training batches an epoch, which is a round.
        val_split: share of the rows held out from training, in [0, 1).
        num_workers: loader processes.
        seed: of the split, the shuffling and, in random data, the data.

    Attributes:
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: an argument is out of its range.
    """

    #: True where training batches are drawn fresh instead of from a fixed set of rows.
    stream: bool = False

    def __init__(
        self,
        batch_size: int = 1024,
        batches_per_round: int = 50,
        val_split: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("batches_per_round", batches_per_round, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}: give an integer of at least {least}")
        if not 0 <= val_split < 1:
            raise ValueError(f"val_split is {val_split}: give a share in [0, 1), 0 to hold no rows out")
        self.batch_size = batch_size
        self.batches_per_round = batches_per_round
        self.val_split = val_split
        self.num_workers = num_workers
        self.seed = seed
        self.rank, self.world_size = 0, 1
        self._permutation: tuple[tuple[int, int], Tensor] | None = None

    @abstractmethod
    def load(self) -> Rows:
        """All rows, (n, d_model). Called once; a tensor of any floating dtype is checked and kept as float32."""

    @cached_property
    def rows(self) -> Rows:
        """All rows, training and held-out, (n, d_model) float32.

        Raises:
            ValueError: fewer than two rows, not a matrix, or values that are not finite.
        """
        return check_activations(self.load(), source=self.label)

    def cache(self) -> Path:
        """Fill the store that this data is kept in, and give its folder.

        Raises:
            ValueError: it is kept in none.
        """
        raise ValueError(f"{type(self).__name__} keeps no store: give data that does, such as HookedTransformer")

    def parts(self) -> list["ActivationDataModule"]:
        """The data sets that a measurement treats one by one: the layers, where there are several, else this alone."""
        return [self]

    @property
    def place(self) -> Place | None:
        """Which layer of which model this is; None where it is none."""
        return None

    @property
    def origin(self) -> dict[str, Any] | None:
        """How the activations were made, of plain types, where that is known; for controls that make them anew."""
        return None

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return self.rows.shape[1]

    @property
    def label(self) -> str:
        """How tables and pictures name this data."""
        return type(self).__name__

    @property
    def ground_truth(self) -> GroundTruth | None:
        """The known answer, where there is one."""
        return None

    @property
    def metadata(self) -> Mapping[str, list[str] | Tensor] | None:
        """Columns with one entry a row of `rows` (such as the token), where there are any."""
        return None

    @cached_property
    def train_index(self) -> Tensor:
        """Which rows are for training, ascending, int64."""
        return self._split[0]

    @cached_property
    def heldout_index(self) -> Tensor:
        """Which rows are held out, ascending, int64; empty with `val_split` 0."""
        return self._split[1]

    @cached_property
    def _split(self) -> tuple[Tensor, Tensor]:
        n = len(self.rows)
        held_out = min(round(n * self.val_split), n - 1)
        if self.val_split > 0 and held_out == 0:
            raise ValueError(
                f"val_split is {self.val_split}, and so holds out none of {n} rows: raise it or set it to 0"
            )
        order = torch.randperm(n, generator=generator(self.seed, _SPLIT))
        return order[held_out:].sort().values, order[:held_out].sort().values

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and mean norm of the training rows, accumulated in float64.

        Raises:
            ValueError: all training rows are equal.
        """
        n = len(self.train_index)
        mean = torch.zeros(self.d_model, dtype=torch.float64)
        for block in row_blocks(self.rows, self.train_index):
            mean += block.sum(0, dtype=torch.float64)
        mean /= n
        mean_norm = 0.0
        for block in row_blocks(self.rows, self.train_index):
            mean_norm += float((block.double() - mean).norm(dim=1).sum()) / n
        if not math.isfinite(mean_norm):
            raise ValueError(f"{self.label}: some activations are NaN or infinite: find out what made them")
        if mean_norm <= 1e-7 * float(mean.norm()):  # float32 tells no smaller differences from none
            raise ValueError(f"{self.label}: all {n} training rows are equal: give others")
        return Statistics(mean=mean, mean_norm=mean_norm)

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Training rows chosen at random, (num, d_model); without replacement while there are enough."""
        n = len(self.train_index)
        turns = [torch.randperm(n, generator=random) for _ in range(-(-num // n))]
        return self.rows[self.train_index[torch.cat(turns)[:num]]]

    def setup(self, stage: str | None = None) -> None:
        """Load and check the rows before anything long begins."""
        if self.trainer is not None:
            self.rank, self.world_size = self.trainer.global_rank, self.trainer.world_size
        _ = self.statistics

    def __getstate__(self) -> dict[str, Any]:
        """Without the trainer, which no loader process needs."""
        return self.__dict__ | {"trainer": None}

    def train_batch(self, epoch: int, index: int) -> Tensor:
        """The global training batch number `index` of an epoch, (batch, d_model)."""
        n = len(self.train_index)
        size = self.global_batch(n)
        start, stop = index * size, (index + 1) * size
        picks = []
        for turn in range(start // n, (stop - 1) // n + 1):
            first = turn * n
            picks.append(self._shuffled(epoch, turn)[max(start - first, 0) : stop - first])
        return self.rows[torch.cat(picks)]

    def rank_batch(self, epoch: int, index: int) -> Tensor:
        """This process's share of that batch, (batch / world_size, d_model)."""
        return self.train_batch(epoch, index)[self.rank :: self.world_size]

    def _shuffled(self, epoch: int, turn: int) -> Tensor:
        """The training rows in the order of one pass over them; the last order asked for is kept."""
        if self._permutation is None or self._permutation[0] != (epoch, turn):
            order = torch.randperm(len(self.train_index), generator=generator(self.seed, _SHUFFLE, epoch, turn))
            self._permutation = (epoch, turn), self.train_index[order]
        return self._permutation[1]

    def global_batch(self, most: int | None = None) -> int:
        """Rows of a training batch over all processes, a multiple of their number and no more than `most`.

        Raises:
            ValueError: there is not a row for each process.
        """
        size = self.batch_size if most is None else min(self.batch_size, most)
        size -= size % self.world_size
        if size == 0:
            raise ValueError(
                f"batch_size is {self.batch_size}, and there are {len(self.train_index)} training rows, for "
                f"{self.world_size} processes: give at least one row for each process"
            )
        return size

    def train_dataloader(self) -> DataLoader[Tensor]:
        """One round of training batches, (batch / world_size, d_model) each."""
        self.global_batch()
        dataset = TrainingBatches(self.rank_batch)
        return batch_loader(dataset, self.batches_per_round, self.num_workers)

    def _row_loader(self, index: Tensor, with_index: bool = False) -> DataLoader[Tensor]:
        # Four times the training batch: scoring needs no gradient, and larger batches share the Gram matrix.
        size = 4 * self.batch_size
        dataset = RowBatches(self.rows, index, size, self.rank, self.world_size, with_index)
        return batch_loader(dataset, dataset.num_batches, 0)

    def val_dataloader(self) -> list[DataLoader[Tensor]]:
        """The training rows, each once, and then, if there are any, the held-out rows."""
        loaders = [self._row_loader(self.train_index)]
        if len(self.heldout_index):
            loaders.append(self._row_loader(self.heldout_index))
        return loaders

    def test_dataloader(self) -> list[DataLoader[Tensor]]:
        """The same as `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Tensor]:
        """All rows, each once, as pairs (index, rows)."""
        return self._row_loader(torch.arange(len(self.rows)), with_index=True)
