"""Which atoms are active in the same rows."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Pairs of active atoms that are counted at most, a second or two of work.
_MOST_PAIRS = 2e8
# Atoms that are compared with all others at a time.
_BLOCK = 256
# Pairs that meet less often say nothing.
_LEAST_MEETINGS = 5


def partners(active: csr_array, k: int = 5) -> tuple[Ints, Floats, Floats]:
    """The atoms that each atom shares most of its rows with.

    Args:
        active: 1 where an atom is active in a row, (rows, m), rows in random order; only as many are looked at as take
            a few seconds.
        k: partners for each atom.

    Returns:
        Numbers of the partners, (m, k), -1 where there are fewer that meet at least five times; the Jaccard similarity,
        by which they are sorted: rows in which both are active over those in which one is; and the lift: how many times
        more often they meet than if they were independent, (m, k) each, NaN where there are fewer.

    Example:
        >>> active = csr_array(np.tile([[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]], (5, 1)))
        >>> atom, jaccard, lift = partners(active, k=1)
        >>> atom.tolist(), jaccard.round(2).tolist(), lift.round(2).tolist()
        ([[1], [0], [0]], [[1.0], [1.0], [0.33]], [[2.0], [2.0], [1.0]])
    """
    pairs = np.cumsum(np.diff(active.indptr).astype(np.float64) ** 2)
    rows = active[: int(np.searchsorted(pairs, _MOST_PAIRS))].astype(np.float32) if len(pairs) else active
    num_rows, num_atoms = rows.shape
    count = np.asarray(rows.sum(axis=0)).ravel().astype(np.float64)
    atom, jaccard, lift = (np.full((num_atoms, k), fill) for fill in (-1, np.nan, np.nan))
    by_atom = rows.T.tocsr()
    for start in range(0, num_atoms, _BLOCK):
        meetings = by_atom[start : start + _BLOCK] @ rows
        for one in range(start, min(start + _BLOCK, num_atoms)):
            met = slice(meetings.indptr[one - start], meetings.indptr[one - start + 1])
            other, number = meetings.indices[met], meetings.data[met].astype(np.float64)
            kept = (other != one) & (number >= _LEAST_MEETINGS)
            other, number = other[kept], number[kept]
            similarity = number / (count[one] + count[other] - number)
            if len(other) > k:  # sorting only those that may be among the first is quicker
                near = similarity >= np.partition(similarity, len(other) - k)[len(other) - k]
                other, number, similarity = other[near], number[near], similarity[near]
            order = np.lexsort((other, -similarity))[:k]
            found = len(order)
            atom[one, :found], jaccard[one, :found] = other[order], similarity[order]
            lift[one, :found] = number[order] * num_rows / (count[one] * count[other[order]])
    return atom.astype(np.int64), jaccard, lift
