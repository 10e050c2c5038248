"""One layer of a transformer on a text, as a source of rows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.data import Place, Rows, Source, Stream, generator, shuffled_batches
from sparsecode_transformer.locate import short_name
from sparsecode_transformer.readout import output_logits
from sparsecode_transformer.rerun import ModelRerun
from sparsecode_transformer.sequence_capture import COLUMNS
from sparsecode_transformer.text_capture import TextCapture
from sparsecode_transformer.vocabulary import TokenizerVocabulary, load_vocabulary

_STREAM = 31


class LayerStream:
    """Fresh activations of a layer, mixed through a buffer.

    Each process captures its own part of the text. The rows therefore come in another order on another number of
    processes, each as often in expectation. Batches are cheap in the order of an epoch; any other order starts the
    epoch anew.

    Args:
        capture: the activations of the text.
        layer: name of the layer.
        buffer_size: activations in the buffer.
        refill_share: share of the buffer that is given out before it is filled again, in (0, 1].
        seed: of the order.
        left_out: for each column the values that no row has, (k,) integers.
    """

    def __init__(
        self,
        capture: TextCapture,
        layer: str,
        buffer_size: int,
        refill_share: float,
        seed: int,
        left_out: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self.buffer_size = buffer_size
        self.refill_share = refill_share
        self.seed = seed
        self._capture, self._layer = capture, layer
        self._left_out = dict(left_out)
        self._running: tuple[tuple[int, ...], Iterator[Tensor]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the running iterator, which starts anew where it is needed."""
        return self.__dict__ | {"_running": None}

    def batch(self, epoch: int, index: int, size: int, rank: int, world_size: int) -> Tensor:
        """This process's share of a batch, (size / world_size, d_model)."""
        place = (epoch, index, size, rank, world_size)
        if self._running is None or self._running[0] != place:
            key = (self.seed, _STREAM, epoch)
            batches = self._batches(generator(*key), generator(*key, 1 + rank), size, rank, world_size)
            self._running = place, islice(batches, index, None)
        batches = self._running[1]
        self._running = (epoch, index + 1, size, rank, world_size), batches
        return next(batches)

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh activations, (num, d_model)."""
        size = min(num, self.buffer_size)
        batches = self._batches(random, random, size, 0, 1)
        return torch.cat(list(islice(batches, -(-num // size))))[:num]

    def without(self, column: str, values: Sequence[str] | Tensor) -> "LayerStream":
        """A stream without the tokens that have one of these values in a column; the model still sees them.

        Raises:
            ValueError: the text has no such column. `check` finds out whether a token is left.
        """
        _check_column(column)
        numbers = torch.as_tensor(values)  # a text has no columns of strings
        before = self._left_out.get(column, numbers[:0])
        left_out = self._left_out | {column: torch.cat([before, numbers.to(before)]).unique()}
        return LayerStream(self._capture, self._layer, self.buffer_size, self.refill_share, self.seed, left_out)

    def values(self, column: str) -> Tensor:
        """The values of a column in the text of the stream, (k,) int32; tokens left out for their norm are included.

        Raises:
            ValueError: the text has no such column.
        """
        _check_column(column)
        fresh = self._capture.fresh(self._left_out)
        return torch.from_numpy(np.unique(fresh.column(column)[fresh.keep]))

    def check(self, batch_size: int, batches_per_round: int, world_size: int) -> None:
        """Warn if the text is too short for a round.

        Raises:
            ValueError: there is not a fresh sequence for each process.
        """
        fresh = int(self._capture.fresh(self._left_out, world_size).keep.sum())
        needed = batch_size * batches_per_round
        if fresh < needed:
            rank_zero_warn(
                f"stream is true, and the text gives {fresh:,} activations beyond those scored, but a round takes "
                f"{needed:,}: they are repeated. Give more text, or lower num_activations"
            )

    def _batches(
        self, order: torch.Generator, mixing: torch.Generator, size: int, rank: int, world_size: int
    ) -> Iterator[Tensor]:
        blocks = self._capture.stream(self._layer, order, rank, world_size, self._left_out)
        return shuffled_batches(blocks, size // world_size, self.buffer_size // world_size, self.refill_share, mixing)


class LayerSource(Source):
    """The activations of one layer of a transformer on a text.

    Args:
        capture: the activations of the text at all layers.
        layer: name of the layer.
        buffer_size: activations in the buffer of the stream.
        refill_share: share of the buffer that is given out before it is filled again, in (0, 1].
        seed: of the stream.
    """

    def __init__(self, capture: TextCapture, layer: str, buffer_size: int, refill_share: float, seed: int) -> None:
        self.capture = capture
        self._layer = layer
        self._stream = LayerStream(capture, layer, buffer_size, refill_share, seed) if capture.stream_follows else None

    def __getstate__(self) -> dict[str, Any]:
        """With the columns, if the activations are in memory: another process cannot read them from a store."""
        if self.capture.store is not None:
            return {name: value for name, value in self.__dict__.items() if name not in ("columns", "vocabulary")}
        if self._rows is not None:
            _ = self.columns
        return {name: value for name, value in self.__dict__.items() if name != "vocabulary"}

    def load(self) -> Rows:
        """The activations, (n, d_model)."""
        return self.capture.rows(self._layer)

    @property
    def d_model(self) -> int:
        """Width of the layer."""
        return self.capture.widths[self._layer]

    @property
    def place(self) -> Place:
        """The layer and its model."""
        return Place(model_label(self.capture), self._layer)

    @property
    def label(self) -> str:
        """The model and the layer."""
        return f"{model_label(self.capture)} layer {self._layer}"

    @property
    def provenance(self) -> dict[str, Any]:
        """The class and the arguments that make these activations again."""
        return self.capture.recipe.provenance()

    @cached_property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The token_id, position (in the sequence), document and document_position of each row, (n,) int32.

        `document` counts the documents that are not empty, from 0. `document_position` is the index of the token in
        its document.
        """
        return dict(self.capture.columns())

    @property
    def stream(self) -> Stream | None:
        """Activations on the rest of the text, if they were asked for."""
        return self._stream

    @cached_property
    def vocabulary(self) -> TokenizerVocabulary | None:
        """The model's tokens; None, with a warning, if its tokenizer cannot be loaded."""
        return load_vocabulary(self.label, lambda: self.capture.tokenizer)

    def output_logits(self, directions: Tensor) -> Tensor | None:
        """What directions at this layer add to the output logits, (k, V); None if the model has none to be read."""
        rerun = self.rerun
        try:
            rerun.check()
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            rank_zero_warn(
                f"{self.label}: what atoms promote is left out, because the model's head cannot be read: {error}"
            )
            return None
        return output_logits(self.capture.whole, rerun.site, directions)

    @property
    def rerun(self) -> ModelRerun:
        """The model, which is loaded when it is first run."""
        return ModelRerun(self.capture, self._layer)

    def release(self) -> None:
        """Free the model, which can be loaded again."""
        self.capture.release()


def _check_column(column: str) -> None:
    if column not in COLUMNS:
        raise ValueError(f"column is {column!r}, but the columns of a text are {', '.join(COLUMNS)}: give one of these")


def model_label(capture: TextCapture) -> str:
    """The model's short name, and if its weights are random, which and the seed."""
    recipe = capture.recipe
    if recipe.random_weights is None:
        return short_name(recipe.model_name_or_path)
    what = {
        "all": "random weights",
        "all_but_embeddings": "trained embeddings and random weights",
        "shuffled": "shuffled weights",
    }[recipe.randomise]
    return f"{short_name(recipe.model_name_or_path)} with {what} {recipe.random_weights}"
