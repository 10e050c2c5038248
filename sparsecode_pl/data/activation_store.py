"""A store as a data module."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data.again import source_again
from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.data.rerun import Rerun
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.data.source import Place, Source, Vocabulary
from sparsecode_pl.data.subset import SubsetSource
from sparsecode_pl.store.arrays import ACTIVATIONS
from sparsecode_pl.store.reader import Store
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.seeding import generator

# A stream of random numbers beside those of the other data modules.
_SUBSET = 40

_ALL = "all"


class StoreSource(Source):
    """One layer of a store. The rows stay on disk.

    Args:
        store: the store, opened.
        layer: name of the layer.

    Raises:
        ValueError: the store has no such layer.
    """

    def __init__(self, store: Store, layer: str) -> None:
        self._store = store
        self._layer = layer
        self._stored = store.rows(layer)

    def load(self) -> Rows:
        """The rows, memory-mapped."""
        return self._stored

    @property
    def d_model(self) -> int:
        """Width of the layer."""
        return self._stored.shape[1]

    @property
    def place(self) -> Place | None:
        """The layer, and the model that the store names, or else its folder; None if the layer has no name."""
        return None if self._unnamed else Place(self._model, self._layer)

    @property
    def provenance(self) -> dict[str, Any]:
        """The store's `source`."""
        return self._store.source

    @property
    def label(self) -> str:
        """The model and the layer, or the folder if the layer has no name."""
        return self._store.path.resolve().name if self._unnamed else f"{self._model} layer {self._layer}"

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The store's columns, (n,) int32 each."""
        return dict(self._store.columns())

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens of the model that filled the store, if its tokenizer can be loaded."""
        return None if self._made_from is None else self._made_from.vocabulary

    def output_logits(self, directions: Tensor) -> Tensor | None:
        """What directions add to the output logits of the model that filled the store, (k, V)."""
        return None if self._made_from is None else self._made_from.output_logits(directions)

    @property
    def rerun(self) -> Rerun | None:
        """The model that filled the store."""
        return None if self._made_from is None else self._made_from.rerun

    @cached_property
    def _made_from(self) -> Source | None:
        """The layer that the store was filled from; None if it is not known."""
        return source_again(self.provenance, self._layer)

    def release(self) -> None:
        """Free the model that filled the store."""
        if self.__dict__.get("_made_from") is not None:
            self.__dict__["_made_from"].release()

    def __getstate__(self) -> dict[str, Any]:
        """Without the model that filled the store."""
        return {name: value for name, value in self.__dict__.items() if name != "_made_from"}

    @property
    def _unnamed(self) -> bool:
        return list(self._store.layers) == [ACTIVATIONS]

    @property
    def _model(self) -> str:
        return str(self._store.source.get("model", self._store.path.resolve().name))


class ActivationStore(ActivationDataModule):
    """Activations that `sparsecode cache` or `write_store` has written, read from disk batch by batch.

    Args:
        path: the store's folder.
        layer: name of a layer in it; with "all", `sparsecode measure` measures every layer by itself.
        num_activations: size of a random subset of the rows, drawn by the seed, the same for every layer; None takes
            all rows.
        partial: also read an unfinished store, as far as it goes.
        verify: first read the whole store and compare its checksums.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        FileNotFoundError: the folder is not a store.
        ValueError: the store is unfinished or damaged, has no such layer, or has fewer rows than asked for.
    """

    def __init__(
        self,
        path: str,
        layer: str | int = _ALL,
        num_activations: int | None = None,
        partial: bool = False,
        verify: bool = False,
        **kwargs: Any,
    ) -> None:
        check_arguments(ActivationStore.__init__, locals())
        super().__init__(**kwargs)
        if num_activations is not None and num_activations < 2:
            raise ValueError(f"num_activations is {num_activations}: give at least 2, or leave it out to take all")
        store = Store(path, partial=partial, verify=verify)
        layers = list(store.layers) if layer == _ALL else [str(layer)]
        self._sources: list[Source] = [StoreSource(store, name) for name in layers]
        if num_activations is not None:
            if num_activations > store.num_rows:
                raise ValueError(
                    f"num_activations is {num_activations}, but the store at {path} has {store.num_rows}: give at most "
                    "that many, or leave it out to take all"
                )
            order = torch.randperm(store.num_rows, generator=generator(self.seed, _SUBSET))
            index = order[:num_activations].sort().values
            self._sources = [SubsetSource(source, index) for source in self._sources]

    def sources(self) -> list[Source]:
        """One source for each layer."""
        return self._sources
