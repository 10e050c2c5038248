"""Which token each atom is most active on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Ints = NDArray[np.int64]
Weights = NDArray[np.float64]

# Activations that wait to be summed take about as much memory as the sums, or these many.
_LEAST_WAITING = 1 << 19


class TokenShares:
    """For each atom the tokens that it is most active on, by the sums of its coefficients, while codes stream past.

    Each atom has a summary of at most `size` tokens (Misra and Gries 1982, merged as by Agarwal et al. 2012), so that
    memory is bounded by atoms x size. Where an atom has been active on more tokens than that, sums are lower bounds,
    and `missed` says by how much they may be too low; it is at most the sum of all its coefficients / (size + 1). Else
    they are exact.

    Args:
        num_atoms: m.
        size: tokens that are kept for each atom.

    Attributes:
        missed: (m,); how much lower than the truth the sums of an atom may be, 0 where they are exact.

    Example:
        >>> shares = TokenShares(num_atoms=2)
        >>> shares.add(np.array([0, 0, 0, 1]), np.array([7, 5, 7, 5]), np.array([1.0, 1.5, 1.0, 4.0]))
        >>> token, weight = shares.largest()
        >>> token.tolist(), weight.tolist()
        ([7, 5], [2.0, 4.0])
    """

    def __init__(self, num_atoms: int, size: int = 32) -> None:
        self.missed = np.zeros(num_atoms)
        self._size = size
        self._sums = csr_array((num_atoms, 1))
        self._waiting: list[tuple[Ints, Ints, Weights]] = []
        self._num_waiting = 0

    def add(self, atom: Ints, token: NDArray[np.integer[Any]], weight: Weights) -> None:
        """Add activations: the atom, the token >= 0 and the coefficient of each, (n,)."""
        self._waiting.append((atom.astype(np.int32), token.astype(np.int32), weight))
        self._num_waiting += len(atom)
        if self._num_waiting >= max(_LEAST_WAITING, self._sums.nnz):
            self._merge()

    def largest(self) -> tuple[Ints, Weights]:
        """The token of each atom with the largest sum, the lowest of several, and the sum, (m,); -1 and 0 for none."""
        self._merge()
        token, largest = np.full(len(self.missed), -1), np.zeros(len(self.missed))
        for atom, row in self._rows(at_least=1):
            best = int(np.argmax(self._sums.data[row]))
            token[atom], largest[atom] = self._sums.indices[row][best], self._sums.data[row][best]
        return token, largest

    def _merge(self) -> None:
        """Take in what waits, and shorten the summaries of atoms with too many tokens."""
        kept = self._sums.tocoo()
        parts = zip((kept.row, kept.col, kept.data), *self._waiting, strict=True)
        self._waiting, self._num_waiting = [], 0
        atom, token, weight = (np.concatenate(part) for part in parts)
        width = int(token.max(initial=0)) + 1
        # Making it adds up the weights of equal pairs, and sorts the tokens of each atom.
        self._sums = csr_array((weight, (atom, token)), shape=(len(self.missed), width))
        # The largest sum that is left out is taken from all sums of the atom.
        taken = np.zeros(len(self.missed))
        for number, row in self._rows(at_least=self._size + 1):
            sums = self._sums.data[row]
            taken[number] = np.partition(sums, len(sums) - self._size - 1)[len(sums) - self._size - 1]
        self.missed += taken
        self._sums.data = np.maximum(self._sums.data - np.repeat(taken, np.diff(self._sums.indptr)), 0)
        self._sums.eliminate_zeros()

    def _rows(self, at_least: int) -> Iterator[tuple[int, slice]]:
        """The atoms with so many tokens, and where their sums stand."""
        starts = self._sums.indptr
        for atom in np.flatnonzero(np.diff(starts) >= at_least).tolist():
            yield atom, slice(starts[atom], starts[atom + 1])
