"""The base class of coders, their binding to atoms, and their settings."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from torch import Tensor

from sparsecode_pl.coding.checks import check_atoms, check_penalty
from sparsecode_pl.coding.gram import gram_matrix
from sparsecode_pl.coding.precision import find_codes
from sparsecode_pl.utilities.arguments import check_tensor

#: Entry points of this group name the coders of other packages.
CODERS = "sparsecode_pl.coders"


class Coder(ABC):
    """A configured method to find codes, for `SparseCodingModule` and `Dictionary`.

    `bind` returns a `BoundCoder`, which encodes with given atoms; `coder(x, atoms, lam)` encodes a single batch.

    To write a coder, define a subclass with one method, `encode`. It is called without gradient, without autocast and
    in the full precision of its inputs. A coder keeps no state between calls. Its attributes are its constructor's
    arguments, with the same names and of plain types, so that `settings` can describe it. What is computed from the
    atoms, such as their Gram matrix, belongs to the `BoundCoder`.

    Attributes:
        memory: bytes that the Gram matrix may take, >= 1; a quarter of the free memory if None.

    Example:
        >>> import torch
        >>> class Nearest(Coder):
        ...     '''Each sample gets the atom that is nearest to it, and no other.'''
        ...
        ...     def encode(self, x, lam, bound):
        ...         value, atom = (x @ bound.atoms.T).max(dim=1)
        ...         return csr_codes(torch.arange(len(x) + 1), atom, value.clamp(min=0), len(bound.atoms))
        >>> from sparsecode_pl.coding import csr_codes
        >>> Nearest()(torch.tensor([[3.0, 1.0]]), torch.eye(2), lam=1.0).to_dense()
        tensor([[3., 0.]])
    """

    memory: int | None = None

    @abstractmethod
    def encode(self, x: Tensor, lam: float, bound: "BoundCoder") -> Tensor:
        """Find codes; `BoundCoder` calls this.

        Args:
            x: activations, centred, (n, d).
            lam: penalty, > 0.
            bound: this coder with its atoms: `bound.atoms`, unit rows, (m, d), of the dtype and device of x, and
                `bound.gram`, their Gram matrix.

        Returns:
            Codes >= 0, sparse CSR (n, m), indices ascending in each row.
        """

    def bind(self, atoms: Tensor, *, reuse: bool = True) -> "BoundCoder":
        """Bind the coder to atoms.

        Args:
            atoms: unit rows, (m, d).
            reuse: keep what can be computed once for many calls. False where the atoms change after each call, as in
                training.
        """
        return BoundCoder(self, atoms, reuse=reuse)

    def __call__(self, x: Tensor, atoms: Tensor, lam: float) -> Tensor:
        """Find the codes of a single batch: `self.bind(atoms, reuse=False)(x, lam)`."""
        return self.bind(atoms, reuse=False)(x, lam)

    def settings(self) -> dict[str, Any]:
        """The settings that recreate this coder: `class_path` and `init_args`, as in a configuration file."""
        # Neither JSON nor a checkpoint can hold NumPy's numbers.
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in vars(self).items()}
        return {"class_path": _path(type(self)), "init_args": plain}

    @staticmethod
    def from_settings(settings: dict[str, Any]) -> "Coder":
        """Make a coder from its `settings`.

        Settings may come from a file that is not trusted. The class must therefore be a coder that is already imported,
        or that an installed package names in the entry-point group `sparsecode_pl.coders`. Nothing else is imported.

        Raises:
            ValueError: there is no such coder, or it does not take these arguments.
        """
        path, arguments = settings.get("class_path"), settings.get("init_args") or {}
        if not isinstance(path, str) or not isinstance(arguments, dict):
            raise ValueError(f"coder is {settings}: give a class_path and, as a dictionary, its init_args")
        coder: type[Coder] = _find(path)
        try:
            inspect.signature(coder).bind(**arguments)
            return coder(**arguments)
        except TypeError as error:
            raise ValueError(f"coder {path} does not take init_args {arguments}: {error}") from error


class BoundCoder:
    """A coder bound to atoms, with what it has computed for them.

    Args:
        coder: the coder.
        atoms: unit rows, (m, d).
        reuse: keep the Gram matrix for further calls.

    Raises:
        ValueError: atoms are no dense tensor with values, or, where they are kept, not finite unit rows.

    Attributes:
        coder: as given.
        atoms: as given but detached, (m, d). They share memory with the given atoms.

    Example:
        >>> import torch
        >>> from sparsecode_pl.coding import GreedyCoder
        >>> encode = GreedyCoder().bind(torch.eye(2))
        >>> encode(torch.tensor([[3.0, 1.0]]), lam=1.0).to_dense()
        tensor([[2.5000, 0.5000]])
    """

    def __init__(self, coder: Coder, atoms: Tensor, *, reuse: bool = True) -> None:
        check_tensor(atoms, "atoms")
        if reuse:  # else the coder checks them at its only call
            check_atoms(atoms)
        self.coder = coder
        self.atoms = atoms.detach()
        self._reuse = reuse
        self._gram: Tensor | None = None
        self._formed_at: int | None = None

    @property
    def gram(self) -> Tensor | None:
        """The Gram matrix of the atoms, (m, m), computed at first use.

        None if it does not fit into the coder's memory, or if the coder is bound with `reuse=False`. It is computed
        again if the atoms have been changed in place.
        """
        if not self._reuse:
            return None
        version = -1 if self.atoms.is_inference() else self.atoms._version  # PyTorch counts in-place changes
        if self._formed_at != version:
            self._gram, self._formed_at = gram_matrix(self.atoms, memory=self.coder.memory), version
        return self._gram

    def __call__(self, x: Tensor, lam: float) -> Tensor:
        """Find codes, without gradient and in the full precision of x, whatever the settings of autocast and TF32.

        Args:
            x: activations, centred, (n, d), of the dtype and device of the atoms.
            lam: penalty, > 0.

        Returns:
            Codes >= 0, sparse CSR (n, m), indices ascending in each row.

        Raises:
            ValueError: x is no dense tensor of floats, the penalty is no number above 0, or the coder refuses them.
        """
        check_tensor(x, "x", floating=True)
        return _encode(x.detach(), check_penalty(lam), self)


@find_codes
def _encode(x: Tensor, lam: float, bound: BoundCoder) -> Tensor:
    return bound.coder.encode(x, lam, bound)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _subclasses(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _find(path: str) -> Any:
    """The coder of a class path.

    Raises:
        ValueError: the path is neither that of an imported coder nor named by an entry point.
    """
    # Of several classes defined under one path, the last one is valid.
    found: Any = next((kind for kind in reversed([*_subclasses(Coder)]) if _path(kind) == path), None)
    if found is None:  # a public name such as sparsecode_pl.coding.GreedyCoder, of a module that is imported
        module, _, name = path.rpartition(".")
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if found is None:
        entry = next((each for each in entry_points(group=CODERS) if path in (each.name, _dotted(each.value))), None)
        found = None if entry is None else entry.load()
    if not (isinstance(found, type) and issubclass(found, Coder)):
        raise ValueError(
            f"coder is {path!r}, which is not a known coder: import the package that defines it first, or give the "
            "coder itself (coder=...)"
        )
    return found


def _dotted(value: str) -> str:
    """The class path of an entry point's value, such as "package.module:Class"."""
    return value.replace(":", ".")
