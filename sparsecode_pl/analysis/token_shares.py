"""Which token each atom is most active on."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Weights = NDArray[np.float64]

_LEAST_WAITING = 1 << 17


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
        self._pairs = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._waiting: list[tuple[Ints, Ints, Weights]] = []
        self._num_waiting = 0

    def add(self, atom: Ints, token: Ints, weight: Weights) -> None:
        """Add activations: the atom, the token >= 0 and the coefficient of each, (n,)."""
        # Summed as they come, because a batch has few pairs that differ.
        self._waiting.append(_summed(atom, token, weight))
        self._num_waiting += len(self._waiting[-1][0])
        if self._num_waiting >= max(_LEAST_WAITING, len(self._pairs[0])):
            self._merge()

    def largest(self) -> tuple[Ints, Weights]:
        """The token of each atom with the largest sum, the lowest of several, and the sum, (m,); -1 and 0 for none."""
        self._merge()
        atom, token, weight = self._pairs
        found, sums = np.full(len(self.missed), -1), np.zeros(len(self.missed))
        order = np.lexsort((token, -weight, atom))
        atoms, first = np.unique(atom[order], return_index=True)
        found[atoms], sums[atoms] = token[order][first], weight[order][first]
        return found, sums

    def _merge(self) -> None:
        """Take in what waits, and shorten the summaries of atoms with too many tokens."""
        parts = zip(self._pairs, *self._waiting, strict=True)
        self._waiting, self._num_waiting = [], 0
        atom, token, weight = _summed(*(np.concatenate(part) for part in parts))
        order = np.lexsort((-weight, atom))
        atom, token, weight = atom[order], token[order], weight[order]
        atoms, first, number = np.unique(atom, return_index=True, return_counts=True)
        crowded = number > self._size
        # The largest sum that is left out is taken from all sums of the atom.
        taken = np.zeros(len(self.missed))
        taken[atoms[crowded]] = weight[first[crowded] + self._size]
        self.missed += taken
        weight = weight - taken[atom]
        kept = weight > 0
        self._pairs = atom[kept], token[kept], weight[kept]


def _summed(atom: Ints, token: Ints, weight: Weights) -> tuple[Ints, Ints, Weights]:
    """The pairs of atom and token, each once, with the sums of their weights."""
    if not len(atom):
        return atom, token, weight
    order = np.lexsort((token, atom))
    atom, token, weight = atom[order], token[order], weight[order]
    new = np.ones(len(atom), bool)
    new[1:] = (atom[1:] != atom[:-1]) | (token[1:] != token[:-1])
    first = np.flatnonzero(new)
    return atom[first], token[first], np.add.reduceat(weight, first)
