"""How rows are split, shuffled and loaded."""

import math
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from sparsecode_pl.data.control import Control
from sparsecode_pl.data.loader import RoundLoader, RowBatches, TrainingBatches, batch_loader
from sparsecode_pl.data.old_forms import check_asked, check_data_form
from sparsecode_pl.data.rows import Rows, row_blocks
from sparsecode_pl.data.source import Source, Stream
from sparsecode_pl.data.split import SINGLE_ROWS, TOKEN, Column, Split, follow, held_out_by, same_columns, split_rows
from sparsecode_pl.data.without_token_means import WithoutTokenMeans
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.seeding import generator

_SHUFFLE = 1  # stream of random numbers


@dataclass(frozen=True)
class Statistics:
    """What a dictionary needs to know about the training rows before it sees them.

    Attributes:
        mean: their mean, (d_model,) float64.
        mean_norm: mean L2 norm of the centred rows.
    """

    mean: Tensor
    mean_norm: float


class ActivationDataModule(LightningDataModule, Control, ABC):
    """Activations, one row for each sample: what a data plugin extends.

    A plugin implements `load`, or `sources` if it has several layers or more to say about its rows. This class checks
    the rows, splits them, shuffles them, and gives loaders that share them out over ranks with equal batch counts.

    There are three kinds of rows: *training rows*; *held-out rows*, for text those of other documents; and, where there
    is a column of token types, *unseen tokens*, the rows of types of which no row was trained on. Rows that are equal
    bit by bit are never on two sides: a held-out row that equals a training row is left out.

    Each training epoch is one *round* of `batches_per_round` batches. They are drawn without replacement and pass over
    the rows as often as needed. Every batch is a pure function of `seed`, epoch and index. So the same configuration
    gives the same batches on one process or eight, and a run that is resumed continues as if it had not stopped.

    Any data can also be the control of other data of the same width.

    Args:
        batch_size: rows for each optimiser step, over all ranks together (rounded down to a multiple of their number).
        batches_per_round: training batches in an epoch, which is a round.
        val_split: share of the rows held out from training, in [0, 1); with 0, no rows of any kind are.
        heldout_by: column whose values are held out as a whole, so that none is on two sides. If None, "document" where
            there is such a column, and else "rows", which holds out single rows.
        unseen_by: column of the token types; if None, "token_id" where there is such a column.
        unseen_split: approximate share of the rows that are of unseen tokens, in [0, 1), drawn at random over the
            types; types with more than a tenth of these rows stay in training. 0 for none.
        remove: with "token_mean", each row is without the mean of the training rows of its token type in other
            documents (or what else is held out as a whole), to measure what is left once the token is known (see
            `WithoutTokenMeans`). Rows of types that are in fewer than two of these are left out, and so are all unseen
            tokens.
        num_workers: loader processes.
        seed: of the split, the shuffling and, in random data, the data.

    Attributes:
        split_like: the split of data that this is a control of, which is used if there are as many rows.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: the class implements neither `load` nor `sources`.
    """

    def __init__(
        self,
        batch_size: int = 1024,
        batches_per_round: int = 50,
        val_split: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
        heldout_by: str | None = None,
        unseen_by: str | None = None,
        unseen_split: float = 0.05,
        remove: Literal["token_mean"] | None = None,
    ) -> None:
        check_arguments(ActivationDataModule.__init__, locals())
        super().__init__()
        cls, base = type(self), ActivationDataModule
        if cls.load is base.load and cls.sources is base.sources:
            raise TypeError(f"{cls.__name__} has no rows: implement `load`, which returns them as a tensor")
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
        if remove not in (None, "token_mean"):
            raise ValueError(f"remove is {remove!r}: give 'token_mean', or leave it out")
        if not 0 <= unseen_split < 1:
            raise ValueError(
                f"unseen_split is {unseen_split}: give a share in [0, 1), 0 to keep all tokens in training"
            )
        self.batch_size = batch_size
        self.batches_per_round = batches_per_round
        self.val_split = val_split
        self.num_workers = num_workers
        self.seed = seed
        self.heldout_by = heldout_by
        self.unseen_by = unseen_by
        self.unseen_split = unseen_split
        self.remove = remove
        self.split_like: Split | None = None
        self.rank, self.world_size = 0, 1
        self._permutation: tuple[tuple[int, int], Tensor] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        check_data_form(cls)
        super().__init_subclass__(**kwargs)
        check_asked(cls, "load", ActivationDataModule.sources)

    # --- which rows ------------------------------------------------------------------------------------------------

    def load(self) -> Rows:
        """All rows, (n, d_model), which a plugin implements; a tensor of any floating dtype becomes float32."""
        return self.source.load()

    def sources(self) -> list[Source]:
        """The rows, one source for each layer. By default there is one source, whose rows `load` gives."""
        return [self._loaded]

    @cached_property
    def _loaded(self) -> Source:
        return AnsweredByModule(self)

    @cached_property
    def layers(self) -> list[Source]:
        """What `sources` gives, without what `remove` names. Asked once: a plugin may make new sources at each call."""
        sources = self.sources()
        if self.remove is None:
            return sources
        return [WithoutTokenMeans(source, self.unseen_by or TOKEN, self._divide) for source in sources]

    @cached_property
    def source(self) -> Source:
        """The rows, if they are of one layer.

        Raises:
            ValueError: they are of several.
        """
        if len(self.layers) != 1:
            names = ", ".join(source.label for source in self.layers)
            raise ValueError(
                f"data are {len(self.layers)} layers ({names}), but one dictionary is learnt from one layer: give one "
                "of them, or use `sparsecode measure`"
            )
        return self.layers[0]

    def layer(self, name: str) -> Source:
        """The rows of one layer of a model, by its name.

        Raises:
            ValueError: there is no such layer.
        """
        named = {source.place.layer: source for source in self.layers if source.place is not None}
        if name not in named:
            raise ValueError(f"layer is {name!r}, and {self.label} has no such layer: give one of {', '.join(named)}")
        return named[name]

    def over(self, source: Source, *, control: bool = False) -> "ActivationDataModule":
        """A data module that loads another source with the settings of this one.

        Args:
            source: the other.
            control: whether it is a control, which is split as this data is if it has as many rows and the same
                columns, and by single rows if it lacks the columns that are named.
        """
        names: dict[str, str | None] = {"heldout_by": self.heldout_by, "unseen_by": self.unseen_by}
        if control:
            names = {key: name for key, name in names.items() if name == SINGLE_ROWS or name in source.columns}
        data = SourceActivations(
            source,
            batch_size=self.batch_size,
            batches_per_round=self.batches_per_round,
            val_split=self.val_split,
            num_workers=self.num_workers,
            seed=self.seed,
            unseen_split=self.unseen_split,
            **names,
        )
        if control and same_columns(source.columns, self.source.columns):
            data.split_like = self.split
        return data

    def of(self, source: Source) -> Source:
        """This data, as a control of other rows.

        Raises:
            ValueError: they differ in width, or this data has several layers.
        """
        if self.d_model != source.d_model:
            raise ValueError(
                f"{self.label} has width {self.d_model}, but {source.label}, whose control it is to be, has width "
                f"{source.d_model}: give a control of the same width"
            )
        return self.source

    def release(self) -> None:
        """Free what a fit has left behind: the trainer, and rows that can be drawn again."""
        self.trainer = None
        self._permutation = None
        self.source.release()

    @property
    def rows(self) -> Rows:
        """All rows, training and held-out, (n, d_model) float32."""
        return self.source.rows

    @property
    def d_model(self) -> int:
        """Width of the activations; of the first layer, if there are several."""
        return self.layers[0].d_model

    @property
    def label(self) -> str:
        """The name of this data in tables and pictures."""
        number = len(self.layers)
        return self.layers[0].label if number == 1 else f"{type(self).__name__}, {number} layers"

    @property
    def stream(self) -> bool:
        """Whether the dictionary is trained on fresh rows instead of `rows`."""
        return self.source.stream is not None

    # --- how they are loaded ---------------------------------------------------------------------------------------

    @cached_property
    def split(self) -> Split:
        """Which rows are for what.

        Raises:
            ValueError: a column is not there or does not serve, or a side is empty.
        """
        if isinstance(self.source, WithoutTokenMeans):
            return self.source.split
        if self.split_like is not None and len(self.split_like.buckets) == len(self.rows):
            return follow(self.split_like, self.rows)
        return self._divide(self.source)

    @property
    def split_settings(self) -> dict[str, Any]:
        """The arguments that decide the split."""
        names = ("val_split", "unseen_split", "heldout_by", "unseen_by", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def _divide(self) -> Callable[[Source], Split]:
        """What splits rows by the settings of this data."""
        return partial(_divide, **self.split_settings)

    @property
    def row_sets(self) -> dict[str, Tensor]:
        """Row numbers by kind, "train", "heldout" and "unseen", ascending int64; a kind without rows is left out."""
        return self.split.rows

    @property
    def train_index(self) -> Tensor:
        """Which rows are for training, ascending, int64."""
        return self.split.rows["train"]

    @property
    def heldout_index(self) -> Tensor:
        """Which rows are held out, ascending, int64; empty with `val_split` 0."""
        return self.split.rows.get("heldout", torch.zeros(0, dtype=torch.int64))

    @property
    def unseen_index(self) -> Tensor:
        """Which rows are of unseen tokens, ascending, int64; empty without a column of token types."""
        return self.split.rows.get("unseen", torch.zeros(0, dtype=torch.int64))

    @cached_property
    def _fresh(self) -> Stream | None:
        """Fresh rows to train on, without those of unseen tokens and of what is held out as a whole."""
        stream, split, columns = self.source.stream, self.split, self.source.checked_columns
        if stream is None:
            return None
        held = ~torch.isin(split.groups, split.groups[self.train_index])
        stream = _without(stream, columns, held_out_by(columns, self.heldout_by), held)
        unseen = torch.zeros(len(held), dtype=torch.bool)
        unseen[self.unseen_index] = True
        return _without(stream, columns, self.unseen_by or TOKEN, unseen)

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
        if self._fresh is not None:
            return self._fresh.sample(num, random)
        n = len(self.train_index)
        turns = [torch.randperm(n, generator=random) for _ in range(-(-num // n))]
        return self.rows[self.train_index[torch.cat(turns)[:num]]]

    def setup(self, stage: str | None = None) -> None:
        """Load and check the rows before anything long begins."""
        if self.trainer is not None:
            self.rank, self.world_size = self.trainer.global_rank, self.trainer.world_size
        _ = self.statistics
        if self._fresh is not None:
            self._fresh.check(self.batch_size, self.batches_per_round, self.world_size)

    def __getstate__(self) -> dict[str, Any]:
        """Without the trainer, which no loader process needs."""
        return self.__dict__ | {"trainer": None}

    def train_batch(self, epoch: int, index: int) -> Tensor:
        """The training batch number `index` of an epoch, (batch, d_model), to look at; training takes `rank_batch`."""
        return self._batch(epoch, index, 0, 1)

    def rank_batch(self, epoch: int, index: int) -> Tensor:
        """This process's share of a training batch, (batch / world_size, d_model); no other rows are read."""
        return self._batch(epoch, index, self.rank, self.world_size)

    def _batch(self, epoch: int, index: int, rank: int, world_size: int) -> Tensor:
        if self._fresh is not None:
            return self._fresh.batch(epoch, index, self.global_batch(), rank, world_size)
        n = len(self.train_index)
        size = self.global_batch(n)
        start, stop = index * size, (index + 1) * size
        picks = []
        for turn in range(start // n, (stop - 1) // n + 1):
            first = turn * n
            picks.append(self._shuffled(epoch, turn)[max(start - first, 0) : stop - first])
        return self.rows[torch.cat(picks)[rank::world_size]]

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
        rows = self.global_batch(None if self._fresh is not None else len(self.train_index))
        settings = {"batch_size": rows, "seed": self.seed, "training rows": len(self.train_index)}
        return RoundLoader(TrainingBatches(self.rank_batch), self.batches_per_round, self.num_workers, settings)

    def _row_loader(self, index: Tensor) -> DataLoader[tuple[Tensor, Tensor]]:
        # Four times the training batch: scoring needs no gradient, and larger batches share the Gram matrix.
        dataset = RowBatches(self.rows, index, 4 * self.batch_size, self.rank, self.world_size)
        return batch_loader(dataset, dataset.num_batches)

    def val_dataloader(self) -> list[DataLoader[tuple[Tensor, Tensor]]]:
        """A loader for each of `row_sets`, in their order, which gives each row once, as pairs (index, rows)."""
        return [self._row_loader(index) for index in self.row_sets.values()]

    def test_dataloader(self) -> list[DataLoader[tuple[Tensor, Tensor]]]:
        """The same as `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """All rows, each once, as pairs (index, rows)."""
        return self._row_loader(torch.arange(len(self.rows)))


def _divide(source: Source, unseen_by: str | None, heldout_by: str | None, **settings: Any) -> Split:
    """Split the rows of a source."""
    columns, stream = source.checked_columns, source.stream

    def known_types(held: Tensor) -> Column | None:
        """The token types of the stream."""
        if stream is None:
            return None
        return _without(stream, columns, held_out_by(columns, heldout_by), held).values(unseen_by or TOKEN)

    return split_rows(
        source.rows, columns, unseen_by=unseen_by, heldout_by=heldout_by, known_types=known_types, **settings
    )


def _without(stream: Stream, columns: Mapping[str, Column], name: str, rows: Tensor) -> Stream:
    """A stream without the values that some rows, given by a mask, have in a column; itself without such a column."""
    if name not in columns or not rows.any():  # the name "rows" stands for no column
        return stream
    values = columns[name]
    if isinstance(values, Tensor):
        return stream.without(name, values[rows].unique())
    return stream.without(name, sorted({values[row] for row in rows.nonzero().flatten().tolist()}))


# Abstract itself, so that the command line never makes one; a subclass needs either `load` or `sources`.
ActivationDataModule.__abstractmethods__ = frozenset({"load"})


class SourceActivations(ActivationDataModule):
    """A source as a data module.

    Args:
        source: the rows.
        kwargs: the arguments of `ActivationDataModule`.
    """

    def __init__(self, source: Source, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._source = source

    def sources(self) -> list[Source]:
        """The source given."""
        return [self._source]


class AnsweredByModule(Source):
    """The rows of a data module that overrides `load`, and perhaps `label` and `d_model`.

    Args:
        data: the data module.
    """

    def __init__(self, data: ActivationDataModule) -> None:
        self._data = data

    def load(self) -> Rows:
        """The rows that the data module loads."""
        return self._data.load()

    @property
    def label(self) -> str:
        """The label that the data module has, or the name of its class."""
        overridden = type(self._data).label is not ActivationDataModule.label
        return self._data.label if overridden else type(self._data).__name__

    @property
    def d_model(self) -> int:
        """The width that the data module knows without loading, or that of the rows."""
        overridden = type(self._data).d_model is not ActivationDataModule.d_model
        return self._data.d_model if overridden else super().d_model
