"""Configured ways to find codes."""

import importlib
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from sparsecode_pl.coding.greedy import Backend, greedy_encode


class Coder(ABC):
    """A way to find codes, with its settings: what `SparseCodingModule` and `Dictionary` take.

    A coder keeps no state between calls and never asks for gradients. Its attributes are its constructor's arguments,
    of the same names and of plain types, so that a checkpoint can tell how it was made.
    """

    def settings(self) -> dict[str, Any]:
        """What makes this coder again: `class_path` and `init_args`, as in a configuration file."""
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": dict(vars(self))}

    @staticmethod
    def from_settings(settings: dict[str, Any]) -> "Coder":
        """Make a coder from its `settings`.

        Raises:
            ValueError: `class_path` is not a coder.
        """
        module, _, name = settings["class_path"].rpartition(".")
        coder = getattr(importlib.import_module(module), name)
        if not (isinstance(coder, type) and issubclass(coder, Coder)):
            raise ValueError(f"coder is {settings['class_path']!r}, which is no Coder: give a subclass of it")
        return coder(**settings.get("init_args", {}))

    @abstractmethod
    def __call__(self, x: Tensor, atoms: Tensor, lam: float) -> Tensor:
        """Find codes.

        Args:
            x: activations, centred, (n, d).
            atoms: unit rows, (m, d), dtype and device of x.
            lam: penalty, > 0.

        Returns:
            Codes >= 0, sparse CSR (n, m), indices ascending in each row.
        """


class GreedyCoder(Coder):
    """The greedy coefficient step (paper, appendix C); see `greedy_encode`.

    Args:
        max_atoms: most atoms a sample, >= 1; None for no bound.
        backend: "auto", "torch" or "numba".

    Raises:
        ValueError: `max_atoms` is below 1.
    """

    def __init__(self, max_atoms: int | None = None, backend: Backend = "auto") -> None:
        if max_atoms is not None and max_atoms < 1:
            raise ValueError(f"max_atoms is {max_atoms}: give at least 1, or None for no bound")
        self.max_atoms = max_atoms
        self.backend: Backend = backend

    def __call__(self, x: Tensor, atoms: Tensor, lam: float) -> Tensor:
        """Greedy codes, sparse CSR (n, m); see `Coder`."""
        return greedy_encode(x, atoms, lam, max_atoms=self.max_atoms, backend=self.backend)
