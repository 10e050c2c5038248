"""The coders that come with the package."""

import torch
from torch import Tensor

from sparsecode_pl.coding.base import BoundCoder, Coder
from sparsecode_pl.coding.greedy import Backend, greedy_encode
from sparsecode_pl.coding.lasso import LassoBackend, check_precision, lasso_encode
from sparsecode_pl.coding.refined import check_refinement, refined_encode
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.memory import check_memory


class GreedyCoder(Coder):
    """The greedy coefficient step (paper, appendix C); see `greedy_encode`.

    Args:
        max_atoms: maximum atoms per sample, >= 1; None for no limit.
        backend: as in `greedy_encode`.
        memory: bytes that the Gram matrix of the atoms, or what replaces it, may take, >= 1; a quarter of the free
            memory if None.

    Raises:
        ValueError: `max_atoms` or `memory` is below 1.
    """

    def __init__(self, max_atoms: int | None = None, backend: Backend = "auto", memory: int | None = None) -> None:
        check_arguments(GreedyCoder.__init__, locals())
        if max_atoms is not None and max_atoms < 1:
            raise ValueError(f"max_atoms is {max_atoms}: give at least 1, or None for no bound")
        check_memory(memory)
        self.max_atoms = max_atoms
        self.backend: Backend = backend
        self.memory = memory

    def encode(self, x: Tensor, lam: float, bound: BoundCoder) -> Tensor:
        """Greedy codes, sparse CSR (n, m); see `Coder`."""
        return greedy_encode(
            x, bound.atoms, lam, max_atoms=self.max_atoms, backend=self.backend, gram=bound.gram, memory=self.memory
        )


class RefinedCoder(Coder):
    """Greedy codes refined by a fixed number of coordinate descent sweeps; see `refined_encode`.

    Where many atoms are active these codes are nearly exact, and take about twice as long as the greedy step's.

    Args:
        rounds: rounds of refinement, >= 1; each but the first adds atoms.
        sweeps: coordinate descent sweeps per round, >= 1.
        backend: as in `refined_encode`.
        memory: bytes that the Gram matrix of the atoms, or what replaces it, may take, >= 1; a quarter of the free
            memory if None.

    Raises:
        ValueError: `rounds`, `sweeps` or `memory` is below 1.

    Example:
        >>> x, atoms = torch.tensor([[3.0, 1.0]]).double(), torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
        >>> GreedyCoder()(x, atoms, lam=1.0).to_dense()
        tensor([[2.5000, 0.6000]], dtype=torch.float64)
        >>> RefinedCoder(rounds=20)(x, atoms, lam=1.0).to_dense()  # the exact codes
        tensor([[1.9375, 0.9375]], dtype=torch.float64)
    """

    def __init__(
        self, rounds: int = 4, sweeps: int = 3, backend: LassoBackend = "auto", memory: int | None = None
    ) -> None:
        check_arguments(RefinedCoder.__init__, locals())
        check_refinement(rounds, sweeps)
        check_memory(memory)
        self.rounds = rounds
        self.sweeps = sweeps
        self.backend: LassoBackend = backend
        self.memory = memory

    def encode(self, x: Tensor, lam: float, bound: BoundCoder) -> Tensor:
        """Refined codes, sparse CSR (n, m); see `Coder`."""
        return refined_encode(
            x,
            bound.atoms,
            lam,
            rounds=self.rounds,
            sweeps=self.sweeps,
            backend=self.backend,
            gram=bound.gram,
            memory=self.memory,
        )


class LassoCoder(Coder):
    """The exact coefficients (paper, section 2), to a relative duality gap; see `lasso_encode`.

    Args:
        tol: relative duality gap, > 0.
        max_iter: maximum iterations per sample, >= 1.
        backend: as in `lasso_encode`.
        memory: bytes that the Gram matrix of the atoms, or what replaces it, may take, >= 1; a quarter of the free
            memory if None.

    Raises:
        ValueError: `tol`, `max_iter` or `memory` is out of its range.
    """

    def __init__(
        self, tol: float = 1e-4, max_iter: int = 10_000, backend: LassoBackend = "auto", memory: int | None = None
    ) -> None:
        check_arguments(LassoCoder.__init__, locals())
        check_precision(tol, max_iter)
        check_memory(memory)
        self.tol = tol
        self.max_iter = max_iter
        self.backend: LassoBackend = backend
        self.memory = memory

    def encode(self, x: Tensor, lam: float, bound: BoundCoder) -> Tensor:
        """Exact codes, sparse CSR (n, m); see `Coder`."""
        found = lasso_encode(
            x,
            bound.atoms,
            lam,
            tol=self.tol,
            max_iter=self.max_iter,
            backend=self.backend,
            gram=bound.gram,
            memory=self.memory,
        )
        return found.codes


class MatchingPursuitCoder(Coder):
    """Matching pursuit with a fixed number of steps, without shrinkage and without taking an atom twice.

    Each step takes the atom, among those not yet chosen for the sample, with the largest dot product with the residual
    r, and its coefficient is that product r.f. A sample ends early only when no product is above rounding (see
    `greedy_encode`). The penalty `lam` does not affect the codes; it only weighs them in the scores.

    Args:
        k: atoms per sample, >= 1.
        backend: as in `greedy_encode`.
        memory: bytes that the Gram matrix of the atoms, or what replaces it, may take, >= 1; a quarter of the free
            memory if None.

    Raises:
        ValueError: `k` or `memory` is below 1.

    Example:
        >>> MatchingPursuitCoder(k=2)(torch.tensor([[3.0, 1.0, 2.0]]), torch.eye(3), lam=1.0).to_dense()
        tensor([[3., 0., 2.]])
    """

    def __init__(self, k: int, backend: Backend = "auto", memory: int | None = None) -> None:
        check_arguments(MatchingPursuitCoder.__init__, locals())
        if k < 1:
            raise ValueError(f"k is {k}: give at least 1")
        check_memory(memory)
        self.k = k
        self.backend: Backend = backend
        self.memory = memory

    def encode(self, x: Tensor, lam: float, bound: BoundCoder) -> Tensor:
        """Codes of at most k atoms per sample, sparse CSR (n, m); see `Coder`. `lam` is ignored."""
        no_penalty = 2 * torch.finfo(x.dtype).tiny  # makes it the greedy step without shrinkage
        return greedy_encode(
            x, bound.atoms, no_penalty, max_atoms=self.k, backend=self.backend, gram=bound.gram, memory=self.memory
        )
