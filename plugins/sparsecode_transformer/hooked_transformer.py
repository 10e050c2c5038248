"""Activations of a transformer's layers on text."""

import copy
import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.data import ActivationDataModule, Place, Rows, generator, shuffled_batches
from sparsecode_transformer.activations import TransformerActivations
from sparsecode_transformer.locate import short_name
from sparsecode_transformer.recipe import Recipe
from sparsecode_transformer.sites import SiteKind

_STREAM = 31


class HookedTransformer(ActivationDataModule):
    """Activations of any layers of a Hugging Face transformer on a text, one row a token.

    One forward pass over the text serves all layers; their activations stay in memory, or in a store on disk that later
    runs read instead. Padding never counts, special tokens do not unless asked for. Activations are float32 whatever
    the model computes in. `sparsecode measure` takes several layers and learns a dictionary for each; `sparsecode fit`
    takes one. Held-out rows are tokens drawn at random, so their neighbours may be among the training rows.

    With `stream` the dictionary is trained on fresh activations, heard while it learns and mixed through a buffer; the
    `num_activations` first ones of the text are then only scored.

    Args:
        model_name_or_path: a name on the Hugging Face hub, a local folder, or `package:NAME/sub/folder` for a folder
            inside an installed Python package.
        text: a local .txt (a document a line), .jsonl or .parquet file, or a data set on the hub, `NAME` or
            `NAME:CONFIG`.
        layers: "all"; indices of hidden states, 0 after the embeddings and the last after the final norm; names of
            modules with wildcards, such as "model.layers.*.mlp"; or a list of these.
        site: what an index means: a hidden state ("residual"), or of a block the output of the MLP ("mlp") or the
            attention ("attention"), or the activations inside the MLP ("mlp_hidden").
        num_activations: how many of each layer; None takes all that the text gives.
        store: folder of the activation store; None keeps the activations in memory.
        split: of the data set.
        text_column: column of the text.
        streaming: read a data set of the hub without downloading the whole.
        max_documents: read so many documents at most.
        text_revision: branch, tag or commit of the data set on the hub.
        context_length: most tokens in a sequence; documents are cut there.
        packing: join documents instead, and cut them into sequences of that length.
        keep_special: let special tokens (BOS, CLS, SEP ...) count.
        skip_first: the first so many positions of each sequence do not count.
        max_norm_ratio: leave out tokens whose norm at any of the layers exceeds so many times its median there.
        revision: branch, tag or commit of the model on the hub.
        dtype: that the model computes in: "float32", "bfloat16" or "float16".
        device: where it computes; "auto" is the GPU if there is one.
        trust_remote_code: run code of the model's repository.
        random_weights: a seed gives the model weights drawn by its own initialiser instead of the trained ones.
        batch_tokens: most tokens in a forward pass, padding included.
        store_dtype: that the store keeps: "float32", "bfloat16" or "float16".
        shard_rows: activations in a shard, about, within which sequences are sorted by length; a store that was cut off
            is gone on with from its last shard.
        stream: train on fresh activations.
        buffer_size: activations in the buffer of the stream.
        refill_share: share of the buffer that is given out before it is filled again, in (0, 1].
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        FileNotFoundError: the model's folder or the text's file is not there.
        ValueError: an argument is out of its range.

    Example:
        >>> data = HookedTransformer("EleutherAI/pythia-70m", "wikitext:wikitext-2-raw-v1", layers=3)
        >>> data.label  # nothing is loaded yet
        'pythia-70m layers 3'
    """

    def __init__(
        self,
        model_name_or_path: str,
        text: str,
        layers: int | str | list[int | str] = "all",
        site: SiteKind = "residual",
        num_activations: int | None = 100_000,
        store: str | None = None,
        split: str = "train",
        text_column: str = "text",
        streaming: bool = False,
        max_documents: int | None = None,
        text_revision: str | None = None,
        context_length: int = 256,
        packing: bool = False,
        keep_special: bool = False,
        skip_first: int = 0,
        max_norm_ratio: float | None = None,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
        trust_remote_code: bool = False,
        random_weights: int | None = None,
        batch_tokens: int = 4096,
        store_dtype: str = "float32",
        shard_rows: int = 65_536,
        stream: bool = False,
        buffer_size: int = 65_536,
        refill_share: float = 0.5,
        **kwargs: Any,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name in Recipe.__dataclass_fields__}
        super().__init__(**kwargs)
        if not 0 < refill_share <= 1:
            raise ValueError(f"refill_share is {refill_share}: give a share in (0, 1]")
        if stream and self.num_workers:
            raise ValueError(f"num_workers is {self.num_workers}, but a stream is heard in the main process: give 0")
        if buffer_size < self.batch_size:
            raise ValueError(f"buffer_size is {buffer_size}: give at least batch_size, which is {self.batch_size}")
        self.stream = stream
        self.device = device
        self.buffer_size = buffer_size
        self.refill_share = refill_share
        self._all = TransformerActivations(Recipe(**settings), store, device, stream)
        self._layer: str | None = None
        self._running: tuple[int, int, Iterator[Tensor]] | None = None

    def parts(self) -> list[ActivationDataModule]:
        """One data module for each layer; they share the forward pass."""
        if self._layer is not None:
            return [self]
        parts: list[ActivationDataModule] = []
        for name in self._all.widths:
            part = copy.copy(self)
            part._layer = name
            parts.append(part)
        return parts

    @property
    def layer(self) -> str:
        """The name of the one layer.

        Raises:
            ValueError: there are several.
        """
        if self._layer is None:
            names = list(self._all.widths)
            if len(names) > 1:
                raise ValueError(
                    f"layers names {len(names)} ({', '.join(names)}), but one dictionary is learnt of one layer: give "
                    "one of them, or use `sparsecode measure`"
                )
            self._layer = names[0]
        return self._layer

    @property
    def d_model(self) -> int:
        """Width of the layer, of the first one where there are several."""
        return self._all.widths[self._layer or next(iter(self._all.widths))]

    @property
    def place(self) -> Place:
        """Which layer of which model."""
        return Place(self._model_name, self.layer)

    @property
    def _model_name(self) -> str:
        recipe = self._all.recipe
        random = "" if recipe.random_weights is None else f" with random weights {recipe.random_weights}"
        return short_name(recipe.model_name_or_path) + random

    @property
    def label(self) -> str:
        """The model's name and the layers."""
        recipe = self._all.recipe
        layers = recipe.layers if isinstance(recipe.layers, list) else [recipe.layers]
        which = self._layer or ", ".join(map(str, layers))
        return f"{self._model_name} layer{'' if which == self._layer else 's'} {which}"

    @property
    def origin(self) -> dict[str, Any]:
        """How the activations are made: what makes this again."""
        return self._all.recipe.origin()

    def __getstate__(self) -> dict[str, Any]:
        """Without the running stream, which begins anew where it is needed."""
        return super().__getstate__() | {"_running": None}

    def prepare_data(self) -> None:
        """Fill the store, on the first process of each machine; nothing to do without one."""
        if self._all.store is not None:
            self._all.harvest()

    def cache(self) -> Path:
        """Fill the store.

        Raises:
            ValueError: `store` is not given.
        """
        if self._all.store is None:
            raise ValueError("store is missing: give the folder that the activations are to be kept in")
        self._all.harvest()
        return self._all.store

    def load(self) -> Rows:
        """The activations of the layer, (n, d_model)."""
        return self._all.rows(self.layer)

    @cached_property
    def metadata(self) -> Mapping[str, list[str] | Tensor]:
        """Of each row token_id, position (in the sequence), document and document_position, (n,) int32.

        `document` counts those of the text that are not empty, from 0; `document_position` is the index among its own
        tokens.
        """
        return dict(self._all.columns())

    # --- stream ----------------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Load and check the rows, and the text that streams, before anything long begins."""
        super().setup(stage)
        if self.stream:
            self._all.num_fresh(self.world_size)
            fresh, needed = self._all.num_fresh_activations(), self.batch_size * self.batches_per_round
            if fresh < needed:
                rank_zero_warn(
                    f"stream is true, and the text gives {fresh:,} activations beyond those scored, but a round takes "
                    f"{needed:,}: they come again and again. Give more text, or lower num_activations"
                )

    def _batches(self, order: torch.Generator, mixing: torch.Generator, rank: int, world_size: int) -> Iterator[Tensor]:
        """Fresh batches of one process, without end."""
        blocks = self._all.stream(self.layer, order, rank, world_size)
        size = self.global_batch() // world_size
        return shuffled_batches(blocks, size, self.buffer_size // world_size, self.refill_share, mixing)

    def train_batch(self, epoch: int, index: int) -> Tensor:
        """A batch of this process with `stream`, else the global batch."""
        if not self.stream:
            return super().train_batch(epoch, index)
        if self._running is None or self._running[:2] != (epoch, index):
            key = (self.seed, _STREAM, epoch)
            batches = self._batches(generator(*key), generator(*key, 1 + self.rank), self.rank, self.world_size)
            self._running = epoch, index, itertools.islice(batches, index, None)
        batches = self._running[2]
        self._running = epoch, index + 1, batches
        return next(batches)

    def sample(self, num: int, random: torch.Generator) -> Tensor:
        """Training rows chosen at random, (num, d_model): fresh ones with `stream`."""
        if not self.stream:
            return super().sample(num, random)
        rows = torch.cat(list(itertools.islice(self._batches(random, random, 0, 1), -(-num // self.global_batch()))))
        return rows[:num]

    def rank_batch(self, epoch: int, index: int) -> Tensor:
        """This process's share of a training batch; with `stream` each process hears its own part of the text."""
        return self.train_batch(epoch, index) if self.stream else super().rank_batch(epoch, index)
