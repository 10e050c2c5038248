"""The activations of a transformer on a text, captured in one pass and kept."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from sparsecode_pl.data import MemoryWriter, Progress, Rows, Store, StoreBusyError, StoreWriter
from sparsecode_transformer.activation_capture import ActivationCapture
from sparsecode_transformer.batches import chunks
from sparsecode_transformer.locate import short_name
from sparsecode_transformer.model import load_model, longest_input
from sparsecode_transformer.model_files import fingerprint
from sparsecode_transformer.recipe import Recipe
from sparsecode_transformer.room import check_room
from sparsecode_transformer.sequence_capture import COLUMNS, SequenceCapture, too_few, write_captured
from sparsecode_transformer.sites import Site, find_sites
from sparsecode_transformer.tokenizer import load_tokenizer
from sparsecode_transformer.tokens import Sequences, tokenize
from sparsecode_transformer.whole_model import WholeModel, load_whole_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: More tokens than asked for are read if some may be left out for their norm.
_MARGIN = 1.05
#: Batches that a stream captures at a time, from sequences sorted by length.
_WINDOW = 8


class TextCapture:
    """The activations at several layers on a text, captured when they are first asked for and shared by all layers.

    Args:
        recipe: what they depend on.
        store: folder in which they are kept; None keeps them in memory.
        device: where the model computes.
        stream: also read the text beyond `num_activations`.

    Raises:
        ValueError: `stream` does not go with the recipe.
    """

    def __init__(self, recipe: Recipe, store: str | None, device: str, stream: bool) -> None:
        if stream and recipe.num_activations is None:
            raise ValueError(
                "stream is true and num_activations null: give num_activations, the number kept for scoring"
            )
        if stream and recipe.streaming and recipe.max_documents is None:
            raise ValueError("stream and streaming are true: give max_documents, because all tokens are kept in memory")
        self.recipe = recipe
        self.store = None if store is None else Path(store).expanduser()
        self.device = device
        self.stream_follows = stream
        self._memory: MemoryWriter | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The settings and widths alone: each process loads the model anew, if it needs it."""
        kept = ("recipe", "store", "device", "stream_follows", "widths")
        return {name: self.__dict__[name] for name in kept if name in self.__dict__} | {"_memory": None}

    # --- the model and the text ------------------------------------------------------------------------------------

    @property
    def _weights(self) -> dict[str, Any]:
        """How the model is loaded, with its head or without."""
        names = ("revision", "dtype", "trust_remote_code", "random_weights", "randomise")
        return {name: getattr(self.recipe, name) for name in names} | {"device": self.device}

    @cached_property
    def model(self) -> "PreTrainedModel":
        """The model, loaded."""
        rank_zero_info(f"loading {short_name(self.recipe.model_name_or_path)}")
        return load_model(self.recipe.model, **self._weights)

    @cached_property
    def whole(self) -> WholeModel:
        """The model with its head, loaded; its body then serves as `model`, so that it is not in memory twice."""
        rank_zero_info(f"loading {short_name(self.recipe.model_name_or_path)} to run it")
        whole = load_whole_model(self.recipe.model, **self._weights)
        self.model = whole.body
        return whole

    def release(self) -> None:
        """Free the model, unless a stream needs it."""
        if not self.stream_follows:
            for name in ("whole", "model"):
                self.__dict__.pop(name, None)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""
        return load_tokenizer(self.recipe.model, self.recipe.revision)

    @cached_property
    def sites(self) -> list[Site]:
        """Where activations are captured."""
        return find_sites(self.model, self.recipe.layers, self.recipe.site)

    @cached_property
    def widths(self) -> dict[str, int]:
        """The layers by name, with their widths; from the store if it is complete."""
        if (stored := self._complete_store()) is not None:
            return stored.layers
        with ActivationCapture(self.model, self.sites) as capture:
            return capture.widths()

    @cached_property
    def sequences(self) -> Sequences:
        """The text as token sequences, those scored first.

        Raises:
            ValueError: the text is empty or too short, or sequences are longer than the model takes.
        """
        recipe = self.recipe
        longest = longest_input(self.model)
        if longest is not None and recipe.context_length > longest:
            raise ValueError(
                f"context_length is {recipe.context_length}, but the model takes {longest} tokens: give at most that"
            )
        wanted = recipe.num_activations
        if wanted is not None and recipe.max_norm_ratio is not None:
            wanted = int(wanted * _MARGIN)
        if self.stream_follows:
            wanted = None
        with Progress("tokens", wanted, unit="tokens") as progress:
            counted = 0

            def advance(tokens: int, documents: int) -> None:
                nonlocal counted
                tokens = tokens if wanted is None else min(tokens, wanted)
                progress.advance(tokens - counted)
                counted = tokens

            sequences = tokenize(
                recipe.source.documents(),
                self.tokenizer,
                context_length=recipe.context_length,
                packing=recipe.packing,
                keep_special=recipe.keep_special,
                skip_first=recipe.skip_first,
                num_activations=wanted,
                progress=advance,
            )
        found = int(sequences.kept().sum())
        if recipe.num_activations is not None and found < recipe.num_activations:
            raise ValueError(too_few(recipe.num_activations, found))
        return sequences

    @cached_property
    def _num_scored(self) -> int:
        """Number of sequences whose activations are scored; the stream takes the others."""
        if not self.stream_follows:
            return len(self.sequences)
        wanted = self.recipe.num_activations or 0
        if self.recipe.max_norm_ratio is not None:
            wanted = int(wanted * _MARGIN)
        enough = int(np.searchsorted(np.cumsum(self.sequences.kept()), wanted)) + 1
        return min(enough, len(self.sequences))

    def sequence_capture(self, capture: ActivationCapture) -> SequenceCapture:
        """What captures the activations of the text by the hooks given."""
        pad_id = self.tokenizer.pad_token_id or 0
        return SequenceCapture(capture, self.sequences, self.recipe.batch_tokens, pad_id, self.recipe.max_norm_ratio)

    # --- what is kept ----------------------------------------------------------------------------------------------

    def capture(self) -> None:
        """Capture the activations of the text, unless that has been done.

        Raises:
            ValueError: the text is too short, an activation is not finite, or the store was made with other settings.
            OSError: there is no room for the activations.
        """
        if self._memory is not None or self._complete_store() is not None:
            return
        dtype = getattr(torch, self.recipe.store_dtype)
        found = int(
            self.sequences.kept().sum()
        )  # before a store is begun, so that a text that is too short leaves none behind
        rows = self.recipe.num_activations or found
        if self.store is None:
            self._check_room(rows, torch.float32)
            with MemoryWriter(self.widths, COLUMNS) as memory:
                self._write(memory)
            self._memory = memory
            return
        source = {**self.recipe.provenance(), "model": short_name(self.recipe.model_name_or_path), **self._resolved()}
        stored = 0
        if Store.exists(self.store):
            begun = Store(self.store, partial=True)
            stored = begun.num_rows
            source["class_path"] = begun.source.get("class_path", source["class_path"])  # it may have its older name
        self._check_room(rows - stored, dtype)
        store = self.store
        with self._wait_for_writer(
            lambda: StoreWriter(store, self.widths, COLUMNS, dtype=dtype, source=source)
        ) as writer:
            if not writer.complete:  # another process may have filled it meanwhile, on another machine of the run
                self._write(writer)

    @staticmethod
    def _wait_for_writer(open_writer: Callable[[], StoreWriter]) -> StoreWriter:
        """Open a writer as soon as no other process has the store open."""
        while True:
            try:
                return open_writer()
            except StoreBusyError as error:
                rank_zero_info(f"{error}. Waiting")
                time.sleep(5)

    def _write(self, writer: StoreWriter | MemoryWriter) -> None:
        recipe = self.recipe
        with ActivationCapture(self.model, self.sites) as capture:
            sequences = self.sequence_capture(capture)
            write_captured(sequences, writer, self._num_scored, recipe.num_activations, recipe.shard_rows)
        self.release()  # frees memory for the training that follows

    def _complete_store(self) -> Store | None:
        """The store if it is there and complete.

        Raises:
            ValueError: it was made with other settings.
        """
        if self.store is None or not Store.exists(self.store):
            return None
        store = Store(self.store, partial=True)
        made = {"randomise": "all", **store.source.get("init_args", {})}
        asked = {"randomise": "all", **self.recipe.provenance()["init_args"]}
        for name, value in asked.items():
            if made.get(name) != value:
                raise ValueError(
                    f"{name} is {value!r}, but the store at {self.store} was made with {made.get(name)!r}: give the "
                    "same, delete that folder, give another path, or read it as it is with ActivationStore"
                )
        now = {"fingerprint": fingerprint(self.recipe.model), "text": self.recipe.source.file_identity()}
        for name, what in (("fingerprint", "model_name_or_path"), ("text", "text")):
            if now[name] is not None and store.source.get(name) != now[name]:
                raise ValueError(
                    f"{what} is {asked[what]!r}, whose content has changed since the store at {self.store} was made: "
                    "delete that folder, give another path, or read it as it is with ActivationStore"
                )
        return store if store.complete else None

    def rows(self, layer: str) -> Rows:
        """The activations of a layer, (n, width), captured if they have not been."""
        self.capture()
        return Store(self.store).rows(layer) if self._memory is None else self._memory.rows(layer)  # type: ignore[arg-type]

    def columns(self) -> dict[str, Tensor]:
        """The token of each activation and where it stands, (n,) int32 each."""
        self.capture()
        return Store(self.store).columns() if self._memory is None else self._memory.columns()  # type: ignore[arg-type]

    def fresh(self, left_out: Mapping[str, Tensor], world_size: int = 1) -> Sequences:
        """The text of the stream: the whole text, of which only the tokens count that the stream may give.

        These are of documents of which nothing is scored. With packing, a document may begin in the last sequence that
        is scored and go on in the next ones.

        Args:
            left_out: for each column the values that tokens of the stream must not have, (k,) integers.
            world_size: number of processes.

        Raises:
            ValueError: too few sequences have such tokens for so many processes, or there is no such column.
        """
        whole = self.sequences
        keep = whole.keep.copy()
        end = whole.starts[self._num_scored]
        keep[:end] = False
        keep &= whole.document > whole.document[end - 1]
        for name, values in left_out.items():
            keep &= ~np.isin(whole.column(name), values.numpy())
        fresh = replace(whole, keep=keep)
        found = int((fresh.kept() > 0).sum())
        if found < world_size:
            without = "".join(f", or have only tokens whose {name} is left out" for name in left_out)
            rest = ", or the rest of their last document" if self.recipe.packing else ""
            raise ValueError(
                f"stream is true, but of {len(whole):,} sequences all but {found} hold the num_activations, "
                f"{self.recipe.num_activations:,}, that are scored{rest}{without}: lower it or give more text"
            )
        return fresh

    def stream(
        self, layer: str, random: torch.Generator, rank: int, world_size: int, left_out: Mapping[str, Tensor]
    ) -> Iterator[Tensor]:
        """Activations of a layer on the rest of the text, over and over in different orders, without end.

        Args:
            layer: its name.
            random: what the order is drawn with, the same on every process.
            rank: this process, which captures its share of the sequences.
            world_size: number of processes.
            left_out: for each column the values that no row has, (k,) integers.

        Yields:
            (k, width) float32, any k.

        Raises:
            ValueError: the rest of the text is too short, an activation is NaN or infinite, or no token is left.
        """
        text = self.fresh(left_out, world_size)
        which = torch.from_numpy(np.flatnonzero(text.kept()))
        capture = ActivationCapture(self.model, [site for site in self.sites if site.name == layer])
        whole = self.sequence_capture(capture)
        with capture:
            limits = whole.limits()  # of all tokens, so that they are those of the rows that are scored
        sequences = replace(whole, sequences=text)
        lengths = np.diff(text.starts)
        while True:
            order = which[torch.randperm(len(which), generator=random)].numpy()[rank::world_size]
            found = 0
            for first, last in chunks(lengths[order], _WINDOW * self.recipe.batch_tokens):
                with capture:  # closed between two blocks, because another layer may capture from the same model
                    captured = [
                        (rows[layer].cpu().float(), columns["document"])
                        for _, rows, columns in sequences.rows(order[first:last], limits)
                    ]
                for block, document in captured:
                    bad = ~block.isfinite().all(1)
                    if bad.any():
                        raise ValueError(
                            f"layer {layer!r} has values that are NaN or infinite (document {document[bad][0]}): find "
                            "out what made them"
                        )
                    found += len(block)
                    yield block
            if found == 0:
                raise ValueError(
                    f"max_norm_ratio is {self.recipe.max_norm_ratio}, which leaves out every token of the stream in "
                    f"{len(order):,} sequences: raise it"
                )

    def _resolved(self) -> dict[str, Any]:
        """What the settings do not say: the version of the model and of the text."""
        return {
            "revision": getattr(self.model.config, "_commit_hash", None) or self.recipe.revision,
            "fingerprint": fingerprint(self.recipe.model),
            "text": self.recipe.source.identity(),
        }

    def _check_room(self, rows: int, dtype: torch.dtype) -> None:
        size = rows * (sum(self.widths.values()) * dtype.itemsize + 4 * len(COLUMNS))
        layers = "1 layer" if len(self.widths) == 1 else f"{len(self.widths)} layers"
        check_room(f"{rows:,} activations of {layers}", size, self.store)
