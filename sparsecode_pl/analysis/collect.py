"""One pass over codes that keeps, for each atom, what there is to see of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from sparsecode_pl.analysis.best import BestPerAtom, Floats, Ints, random_priority
from sparsecode_pl.analysis.text import RowText
from sparsecode_pl.analysis.token_shares import TokenShares
from sparsecode_pl.codec import Codec
from sparsecode_pl.data import Progress, Rows

# Rows that are coded at a time.
_BLOCK = 4096
# Histograms of coefficients reach from a hundredth of the penalty to a hundred times it.
_BINS, _LOW, _HIGH = 40, 1e-2, 1e2
# Tokens that are kept for each atom, at least, and of all atoms together.
_LEAST_TOKENS, _ALL_TOKENS = 32, 1 << 21
# Rows whose active atoms are kept whole, to see which atoms are active together.
_WHOLE_ROWS = 65_536


@dataclass(frozen=True)
class Collected:
    """What one pass over codes has kept.

    Attributes:
        count: rows in which each atom is active, (m,) int64.
        total: sum of its coefficients, (m,) float64.
        histogram: coefficients in each bin, (m, bins) int64; those beyond the edges are in the end bins.
        edges: of the bins, (bins + 1,), in units of coefficients.
        top: the largest coefficients of each atom.
        sample: a uniform sample of each atom's coefficients.
        tokens: which tokens each atom is most active on; None without tokens.
        together: 1 where an atom is active in a uniform sample of the rows, in random order, (rows, m).
    """

    count: Ints
    total: NDArray[np.float64]
    histogram: Ints
    edges: NDArray[np.float64]
    top: BestPerAtom
    sample: BestPerAtom
    tokens: TokenShares | None
    together: csr_array


def collect(
    codec: Codec, rows: Rows, counted: NDArray[np.bool_], text: RowText, *, top: int, sample: int, context: int
) -> Collected:
    """Code rows once, block by block, and keep a few examples of each atom with the coefficients around them.

    Memory is bounded by atoms x examples x (2 context + 1). Rows that are not counted are coded only where they are
    next to those that are.

    Args:
        codec: what codes the rows.
        rows: all rows, (n, d).
        counted: mask of the rows that are counted and are examples, (n,).
        text: what is known of their text.
        top: examples of the largest coefficients for each atom.
        sample: examples drawn at random for each atom.
        context: rows on each side of an example whose coefficients are kept.
    """
    codec, num_atoms = codec.bind(), codec.num_atoms
    context = context if text.has_context else 0
    width = 2 * context + 1 if context else 0
    best, drawn = BestPerAtom(num_atoms, top, width), BestPerAtom(num_atoms, sample, width)
    tokens = TokenShares(num_atoms, max(_LEAST_TOKENS, _ALL_TOKENS // num_atoms)) if text.has_words else None
    edges = codec.lam * np.geomspace(_LOW, _HIGH, _BINS + 1)
    count, total = np.zeros(num_atoms, np.int64), np.zeros(num_atoms)
    histogram = np.zeros(num_atoms * _BINS, np.int64)
    whole: list[csr_array] = []
    share = _WHOLE_ROWS / max(1, int(counted.sum()))
    scan = np.flatnonzero(_near(counted, text, context) if context else counted)
    with Progress("coding", len(scan), unit="rows") as progress:
        for start in range(0, len(scan), _BLOCK):
            stop = min(start + _BLOCK, len(scan))
            first = max(0, start - context)
            block = scan[first : min(stop + context, len(scan))]
            codes = codec.encode(_at(rows, block).to(codec.atoms.device)).detach().cpu()
            crow, atom = codes.crow_indices().numpy(), codes.col_indices().numpy()
            value = codes.values().float().numpy()
            local = np.repeat(np.arange(len(block)), np.diff(crow))
            own = np.zeros(len(block), bool)
            own[start - first : stop - first] = counted[block[start - first : stop - first]]
            chosen = np.flatnonzero(own[local])
            around = _Around(block, local * num_atoms + atom, value, text.sequence, context, num_atoms)
            place, atom, value = local[chosen], atom[chosen], value[chosen]
            row = block[place]

            def near(index: Ints, place: Ints = place, atom: Ints = atom, around: _Around = around) -> Floats:
                return around(place[index], atom[index])

            best.add(atom, value.astype(np.float64), row, value, near)
            drawn.add(atom, random_priority(row, atom), row, value, near)
            count += np.bincount(atom, minlength=num_atoms)
            total += np.bincount(atom, value, num_atoms)
            bins = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, _BINS - 1)
            histogram += np.bincount(atom * _BINS + bins, minlength=len(histogram))
            if tokens is not None:
                tokens.add(atom, text.kind[row], value.astype(np.float64))
            drawn_row = random_priority(block, np.full(len(block), num_atoms)) < share
            active = csr_array((np.ones(len(place), np.float32), (place, atom)), shape=(len(block), num_atoms))
            whole.append(active[np.flatnonzero(own & drawn_row)])
            progress.advance(stop - start)
    best.finish()
    drawn.finish()
    return Collected(
        count,
        total,
        histogram.reshape(num_atoms, _BINS),
        edges,
        best,
        drawn,
        tokens,
        _shuffled(whole, num_atoms),
    )


class _Around:
    """The coefficients of an atom in the rows around some entries of a block."""

    def __init__(
        self, block: Ints, keys: Ints, value: Floats, sequence: NDArray[Any], context: int, num_atoms: int
    ) -> None:
        self._block, self._sequence = block, sequence[block]
        self._keys, self._value = keys, value  # keys are place x num_atoms + atom, ascending
        self._context, self._num_atoms = context, num_atoms

    def __call__(self, place: Ints, atom: Ints) -> Floats:
        """Coefficients (j, 2 context + 1), NaN where there is no row in the same sequence."""
        if not self._context:
            return np.zeros((len(place), 0), np.float32)
        offsets = np.arange(-self._context, self._context + 1)
        there = np.clip(place[:, None] + offsets, 0, len(self._block) - 1)
        same = (self._block[there] - self._block[place][:, None] == offsets) & (
            self._sequence[there] == self._sequence[place][:, None]
        )
        keys = there * self._num_atoms + atom[:, None]
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        value = np.where(self._keys[found] == keys, self._value[found], np.float32(0))
        around: Floats = np.where(same, value, np.float32(np.nan))
        return around


def _near(counted: NDArray[np.bool_], text: RowText, context: int) -> NDArray[np.bool_]:
    """Mask of the rows that are counted, or at most `context` rows from one in the same sequence."""
    near = counted.copy()
    for offset in range(1, context + 1):
        same = text.sequence[offset:] == text.sequence[:-offset]
        near[offset:] |= counted[:-offset] & same
        near[:-offset] |= counted[offset:] & same
    return near


def _at(rows: Rows, index: Ints) -> torch.Tensor:
    """Rows of an ascending index, by a slice where it has no gaps, which is quicker on disk."""
    if index[-1] - index[0] + 1 == len(index):
        return rows[int(index[0]) : int(index[-1]) + 1]
    return rows[torch.from_numpy(index)]


def _shuffled(parts: list[csr_array], num_atoms: int) -> csr_array:
    """Rows of codes in random order, (rows, m)."""
    if not parts:
        return csr_array((0, num_atoms), dtype=np.float32)
    rows = vstack(parts, format="csr")
    order: csr_array = rows[np.random.default_rng(0).permutation(rows.shape[0])]
    return order
