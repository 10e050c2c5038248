"""A store as a data module."""

from copy import copy
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data.base import ActivationDataModule, Place
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.store.arrays import ACTIVATIONS
from sparsecode_pl.store.reader import Store
from sparsecode_pl.utilities.seeding import generator

# One stream of random numbers for each purpose, beside those of the other data modules.
_SUBSET = 40

_ALL = "all"


class ActivationStore(ActivationDataModule):
    """Activations that `sparsecode cache` or `write_store` wrote, read from the disk batch by batch.

    Args:
        path: the store's folder.
        layer: name of a layer in it; "all" takes each by itself in `sparsecode measure`.
        num_activations: take a random subset of so many rows, drawn by the seed, the same for every layer; None takes
            all.
        partial: read what is there of an unfinished store too.
        verify: read the store through and compare its checksums first.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        FileNotFoundError: the folder is no store.
        ValueError: the store is unfinished or spoilt, or has no such layer or not so many rows.
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
        super().__init__(**kwargs)
        if num_activations is not None and num_activations < 2:
            raise ValueError(f"num_activations is {num_activations}: give at least 2, or leave it out to take all")
        self.path = path
        self.layer = str(layer)
        self.num_activations = num_activations
        self._store = Store(path, partial=partial, verify=verify)
        self._layers = list(self._store.layers) if self.layer == _ALL else [self.layer]
        self._stored = [self._store.rows(layer) for layer in self._layers]
        if num_activations is not None and num_activations > self._store.num_rows:
            raise ValueError(
                f"num_activations is {num_activations}, but the store at {path} has {self._store.num_rows}: give at "
                "most so many, or leave it out to take all"
            )

    def load(self) -> Rows:
        """The rows, which stay on the disk.

        Raises:
            ValueError: the data are several layers.
        """
        if len(self._layers) > 1:
            raise ValueError(
                f"layer is {_ALL!r}, and the store has {len(self._layers)} layers ({', '.join(self._layers)}), but one "
                "dictionary is learnt of one layer: give one of them, or use `sparsecode measure`"
            )
        index = self.subset
        return self._stored[0] if index is None else _Subset(self._stored[0], index)

    def parts(self) -> list[ActivationDataModule]:
        """One data module for each layer."""
        if len(self._layers) == 1:
            return [self]
        return [self._part(layer) for layer in self._layers]

    def _part(self, layer: str) -> "ActivationStore":
        part = copy(self)  # of the store as it was opened, though it may have grown
        part.layer, part._layers, part._stored = layer, [layer], [self._store.rows(layer)]
        return part

    @property
    def d_model(self) -> int:
        """Width of the layer; of the first, if there are several."""
        return self._stored[0].shape[1]

    @property
    def place(self) -> Place | None:
        """The model that the store names, or else its folder, and the layer; None for several, or for one unnamed."""
        if len(self._layers) > 1 or self._unnamed:
            return None
        return Place(self._model, self._layers[0])

    @property
    def origin(self) -> dict[str, Any]:
        """The store's `source`."""
        return self._store.source

    @property
    def label(self) -> str:
        """The model and the layer, or the folder where the layer has no name."""
        if self._unnamed:
            return self._store.path.resolve().name
        layers = f"layer {self._layers[0]}" if len(self._layers) == 1 else f"{len(self._layers)} layers"
        return f"{self._model} {layers}"

    @property
    def metadata(self) -> dict[str, list[str] | Tensor] | None:
        """The store's columns, for the rows taken, (n,) int32 each."""
        index = self.subset
        columns = self._store.columns()
        return {name: column if index is None else column[index] for name, column in columns.items()} or None

    @property
    def _unnamed(self) -> bool:
        return list(self._store.layers) == [ACTIVATIONS]

    @property
    def _model(self) -> str:
        return str(self._store.source.get("model", self._store.path.resolve().name))

    @property
    def num_stored(self) -> int:
        """Rows in the store."""
        return self._store.num_rows

    @property
    def subset(self) -> Tensor | None:
        """Which of them are taken, ascending; None for all."""
        if self.num_activations is None:
            return None
        order = torch.randperm(self._store.num_rows, generator=generator(self.seed, _SUBSET))
        return order[: self.num_activations].sort().values


class _Subset:
    """Some of stored rows; still on the disk."""

    def __init__(self, rows: Rows, index: Tensor) -> None:
        self.shape = (len(index), rows.shape[1])
        self._rows, self._index = rows, index

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice, /) -> Tensor:
        return self._rows[self._index[index]]
