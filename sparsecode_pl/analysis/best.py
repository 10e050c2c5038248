"""The best few entries of each atom, kept while codes stream past."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# Entries that wait to be merged take at most half as much memory as those that are kept, or these few.
_LEAST_WAITING = 1 << 17
# Atoms that are merged at a time, so that little is copied.
_ATOMS = 4096


class BestPerAtom:
    """For each atom the k entries of highest priority, each with the coefficients around it.

    Memory is bounded by atoms x k x width, however many entries come. Of equal priorities the lower row is kept, so
    the result does not depend on the order or the size of the batches.

    Args:
        num_atoms: m.
        k: entries for each atom.
        width: number of coefficients around an entry, 0 for none.

    Attributes:
        rows: (m, k) int64, the best first, -1 where there are fewer.
        values: coefficients, (m, k) float32, NaN where there are fewer.
        around: coefficients around them, (m, k, width) float32.

    Example:
        >>> best = BestPerAtom(num_atoms=2, k=2, width=0)
        >>> atom, priority = np.array([0, 0, 1, 0]), np.array([1.0, 3.0, 5.0, 2.0])
        >>> value = priority.astype(np.float32)
        >>> best.add(atom, priority, np.arange(4), value, lambda chosen: np.zeros((len(chosen), 0)))
        >>> best.finish()
        >>> best.rows.tolist()
        [[1, 3], [2, -1]]
    """

    def __init__(self, num_atoms: int, k: int, width: int) -> None:
        self.rows = np.full((num_atoms, k), -1, np.int64)
        self.values = np.full((num_atoms, k), np.nan, np.float32)
        self.around = np.full((num_atoms, k, width), np.nan, np.float32)
        self._priority = np.full((num_atoms, k), -np.inf)
        self._waiting: list[tuple[Ints, NDArray[np.float64], Ints, Floats, Floats]] = []
        self._num_waiting = 0

    def add(
        self,
        atom: Ints,
        priority: NDArray[np.float64],
        row: Ints,
        value: Floats,
        around: Callable[[Ints], Floats],
    ) -> None:
        """Add entries.

        Args:
            atom: (n,).
            priority: finite, (n,).
            row: (n,); no entry comes twice.
            value: coefficients, (n,).
            around: gives the coefficients around some entries, by their indices (j,): (j, width). It is asked only for
                those that may be kept.
        """
        k = self.rows.shape[1]
        # A priority that equals the last one kept may win by its row.
        chosen = np.flatnonzero(priority >= self._priority[atom, -1])
        order = chosen[np.lexsort((row[chosen], -priority[chosen], atom[chosen]))]
        chosen = order[_rank(atom[order]) < k]
        if not len(chosen):
            return
        self._waiting.append((atom[chosen], priority[chosen], row[chosen], value[chosen], around(chosen)))
        self._num_waiting += len(chosen)
        if self._num_waiting >= max(_LEAST_WAITING, self.rows.size // 2):
            self.finish()

    def finish(self) -> None:
        """Merge the entries that wait, so that the attributes hold the best of all that came."""
        if not self._waiting:
            return
        waiting = tuple(np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._num_waiting = [], 0
        order = np.argsort(waiting[0], kind="stable")
        starts = np.arange(0, len(self.rows), _ATOMS)
        for part in np.split(order, np.searchsorted(waiting[0], starts[1:], sorter=order)):
            if len(part):
                self._merge(*(each[part] for each in waiting))

    def _merge(self, atom: Ints, priority: NDArray[np.float64], row: Ints, value: Floats, around: Floats) -> None:
        """Merge entries with those that are kept of the same atoms."""
        k = self.rows.shape[1]
        changed = np.unique(atom)
        kept = self.rows[changed] >= 0
        atom = np.concatenate([np.repeat(changed, kept.sum(1)), atom])
        priority = np.concatenate([self._priority[changed][kept], priority])
        row = np.concatenate([self.rows[changed][kept], row])
        value = np.concatenate([self.values[changed][kept], value])
        around = np.concatenate([self.around[changed][kept], around])
        order = np.lexsort((row, -priority, atom))
        rank = _rank(atom[order])
        order, rank = order[rank < k], rank[rank < k]
        self.rows[changed], self.values[changed], self._priority[changed] = -1, np.nan, -np.inf
        self.around[changed] = np.nan
        place = atom[order], rank
        self.rows[place], self.values[place], self._priority[place] = row[order], value[order], priority[order]
        self.around[place] = around[order]


def _rank(atom: Ints) -> Ints:
    """The place of each entry among those of its atom, (n,), where equal atoms stand together."""
    new = np.ones(len(atom), bool)
    new[1:] = atom[1:] != atom[:-1]
    first = np.flatnonzero(new)
    rank: Ints = np.arange(len(atom)) - np.repeat(first, np.diff(np.append(first, len(atom))))
    return rank


def random_priority(row: Ints, atom: Ints) -> NDArray[np.float64]:
    """A number in [0, 1) for each pair of row and atom, as good as random but always the same, (n,).

    The entries of highest priority are then a uniform sample. It is the mixing function of SplitMix64 (Steele, Lea and
    Flood 2014).
    """
    with np.errstate(over="ignore"):
        mixed = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + atom.astype(np.uint64)
        for _ in range(2):
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
