"""Batches as pure functions of their index, shared out over ranks.

An item of these data sets is a whole batch, not a row, because one indexing call gathers a batch from a tensor.
`BatchSampler` decides in the main process which batch comes next, so ranks and workers always agree.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from sparsecode_pl.data.rows import Rows

Key = tuple[int, int]


class BatchSampler(DistributedSampler[Key]):
    """The keys (epoch, index) of the batches of an epoch, the same on every rank; the data set takes the rank's share.

    It is a `DistributedSampler` so that Lightning sets its epoch and leaves it in place.

    Args:
        num_batches: number of batches in an epoch.
    """

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self.epoch = 0
        self.first = 0  # batch that the next pass begins with

    def __iter__(self) -> Iterator[Key]:
        return ((self.epoch, index) for index in range(self.first, self.num_batches))

    def __len__(self) -> int:
        return self.num_batches


class TrainingBatches(Dataset[Tensor]):
    """Training batches.

    Args:
        batch: maps (epoch, index) to this process's share of the batch, (batch / world_size, d_model).
    """

    def __init__(self, batch: Callable[[int, int], Tensor]) -> None:
        self.batch = batch

    def __getitem__(self, key: Key) -> Tensor:
        return self.batch(*key)


class RowBatches(Dataset[tuple[Tensor, Tensor]]):
    """Given rows, each once over all ranks, in an equal number of batches on each rank.

    Args:
        x: all rows, (n, d_model).
        index: the rows that are taken, in order, (k,) int64.
        batch_size: maximum number of rows in a batch, over all ranks.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, x: Rows, index: Tensor, batch_size: int, rank: int, world_size: int) -> None:
        self.x = x
        self.num_batches = max(1, -(-len(index) // batch_size))
        self.parts = torch.tensor_split(index[rank::world_size], self.num_batches)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """A batch: row numbers, (k,) int64, and rows, (k, d_model)."""
        part = self.parts[key[1]]
        return part, self.x[part]


def batch_loader(dataset: Dataset[Any], num_batches: int) -> DataLoader[Any]:
    """A loader over a data set of whole batches."""
    return DataLoader(dataset, batch_size=None, sampler=BatchSampler(num_batches), pin_memory=torch.cuda.is_available())


class RoundLoader(DataLoader[Any]):
    """The training batches, which resumes in the middle of a round.

    Its state is the number of batches that have been given out in this round, whatever workers have loaded ahead. Like
    the batches, it is the same on every process.

    Args:
        dataset: the batches.
        num_batches: batches in a round.
        num_workers: loader processes.
        settings: what else decides which batches there are, by name, in plain types.
    """

    def __init__(self, dataset: Dataset[Any], num_batches: int, num_workers: int, settings: Mapping[str, Any]) -> None:
        self.batches = BatchSampler(num_batches)
        super().__init__(
            dataset,
            batch_size=None,
            sampler=self.batches,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
        )
        self.settings = {"batches_per_round": num_batches, **settings}
        self._given = 0
        self._resumed: int | None = None

    # A generator, so that nothing is loaded before the first batch is asked for: Lightning sets the round after it has
    # called this.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._given, self._resumed = self._resumed or 0, None
        self.batches.first = self._given
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Batches given out in this round, and the settings."""
        return {"given": self._given, **self.settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next pass after the batches that were given out.

        Raises:
            ValueError: a setting differs in the middle of a round, where the batches would not be those of the run.
        """
        given = state["given"]
        if given >= state["batches_per_round"]:
            return  # at the end of a round, the next may have other settings
        for name, value in self.settings.items():
            if name in state and state[name] != value:
                raise ValueError(
                    f"{name} is {value}, but the checkpoint was made with {state[name]}, in the middle of a round: "
                    f"give {state[name]}, or resume from a checkpoint of the end of a round"
                )
        self._resumed = given
