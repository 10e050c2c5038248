"""Configured ways to find codes."""

import importlib
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.coding.gram import check_memory, gram_matrix
from sparsecode_pl.coding.greedy import Backend, greedy_encode
from sparsecode_pl.coding.lasso import LassoBackend, check_precision, lasso_encode


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

    def gram(self, atoms: Tensor) -> Tensor | None:
        """The Gram matrix of the atoms, (m, m), for many calls to share; None here, for a coder with no use for it."""
        return None

    def bind(self, atoms: Tensor, *, reuse: bool = True) -> "BoundCoder":
        """This coder for given atoms."""
        return BoundCoder(self, atoms, reuse)

    @abstractmethod
    def __call__(self, x: Tensor, atoms: Tensor, lam: float, gram: Tensor | None = None) -> Tensor:
        """Find codes.

        Args:
            x: activations, centred, (n, d).
            atoms: unit rows, (m, d), dtype and device of x.
            lam: penalty, > 0.
            gram: what `gram` says of these atoms, if it was asked.

        Returns:
            Codes >= 0, sparse CSR (n, m), indices ascending in each row.
        """


class BoundCoder:
    """A coder with given atoms, and what it keeps for them."""

    def __init__(self, coder: Coder, atoms: Tensor, reuse: bool) -> None:
        self.coder, self.atoms = coder, atoms.detach()
        self.gram = coder.gram(self.atoms) if reuse else None

    def __call__(self, x: Tensor, lam: float) -> Tensor:
        """Codes."""
        with torch.autocast(x.device.type, enabled=False), torch.no_grad():
            return self.coder(x, self.atoms, lam, self.gram)


class _GramCoder(Coder):
    """A coder that works by the Gram matrix of the atoms, where it fits into `memory`."""

    memory: int | None

    def gram(self, atoms: Tensor) -> Tensor | None:
        """The Gram matrix of the atoms, (m, m), where it fits into the memory."""
        return gram_matrix(atoms, memory=self.memory)


class GreedyCoder(_GramCoder):
    """The greedy coefficient step (paper, appendix C); see `greedy_encode`.

    Args:
        max_atoms: most atoms a sample, >= 1; None for no bound.
        backend: as in `greedy_encode`.
        memory: bytes that the Gram matrix of the atoms, or what takes its place, may take, >= 1; a quarter of what is
            free if None.

    Raises:
        ValueError: `max_atoms` or `memory` is below 1.
    """

    def __init__(self, max_atoms: int | None = None, backend: Backend = "auto", memory: int | None = None) -> None:
        if max_atoms is not None and max_atoms < 1:
            raise ValueError(f"max_atoms is {max_atoms}: give at least 1, or None for no bound")
        check_memory(memory)
        self.max_atoms = max_atoms
        self.backend: Backend = backend
        self.memory = memory

    def __call__(self, x: Tensor, atoms: Tensor, lam: float, gram: Tensor | None = None) -> Tensor:
        """Greedy codes, sparse CSR (n, m); see `Coder`."""
        return greedy_encode(
            x, atoms, lam, max_atoms=self.max_atoms, backend=self.backend, gram=gram, memory=self.memory
        )


class LassoCoder(_GramCoder):
    """The exact coefficients (paper, section 2), to a relative duality gap; see `lasso_encode`.

    Args:
        tol: relative duality gap, > 0.
        max_iter: most iterations a sample, >= 1.
        backend: as in `lasso_encode`.
        memory: bytes that the Gram matrix of the atoms, or what takes its place, may take, >= 1; a quarter of what is
            free if None.

    Raises:
        ValueError: `tol`, `max_iter` or `memory` is out of its range.
    """

    def __init__(
        self, tol: float = 1e-4, max_iter: int = 10_000, backend: LassoBackend = "auto", memory: int | None = None
    ) -> None:
        check_precision(tol, max_iter)
        check_memory(memory)
        self.tol = tol
        self.max_iter = max_iter
        self.backend: LassoBackend = backend
        self.memory = memory

    def __call__(self, x: Tensor, atoms: Tensor, lam: float, gram: Tensor | None = None) -> Tensor:
        """Exact codes, sparse CSR (n, m); see `Coder`."""
        return lasso_encode(
            x,
            atoms,
            lam,
            tol=self.tol,
            max_iter=self.max_iter,
            backend=self.backend,
            gram=gram,
            memory=self.memory,
        ).codes


class MatchingPursuitCoder(_GramCoder):
    """Matching pursuit with a fixed number of steps, without shrinkage and without taking an atom twice.

    Each step takes the atom, among those not yet chosen for the sample, with the largest dot product with the residual
    r, and its coefficient is that product r.f. A sample ends early only when no product is positive. The penalty plays
    no part in the codes: `lam` still weighs them in the scores, but does not say how many they are.

    Args:
        k: atoms a sample, >= 1.
        backend: as in `greedy_encode`.
        memory: bytes that the Gram matrix of the atoms, or what takes its place, may take, >= 1; a quarter of what is
            free if None.

    Raises:
        ValueError: `k` or `memory` is below 1.

    Example:
        >>> MatchingPursuitCoder(k=2)(torch.tensor([[3.0, 1.0, 2.0]]), torch.eye(3), lam=1.0).to_dense()
        tensor([[3., 0., 2.]])
    """

    def __init__(self, k: int, backend: Backend = "auto", memory: int | None = None) -> None:
        if k < 1:
            raise ValueError(f"k is {k}: give at least 1")
        check_memory(memory)
        self.k = k
        self.backend: Backend = backend
        self.memory = memory

    def __call__(self, x: Tensor, atoms: Tensor, lam: float, gram: Tensor | None = None) -> Tensor:
        """Codes of at most k atoms a sample, sparse CSR (n, m); see `Coder`. `lam` is ignored."""
        no_penalty = 2 * torch.finfo(x.dtype).tiny  # the greedy step without shrinkage
        return greedy_encode(
            x, atoms, no_penalty, max_atoms=self.k, backend=self.backend, gram=gram, memory=self.memory
        )
