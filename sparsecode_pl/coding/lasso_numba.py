"""The exact coefficients compiled for the CPU, parallel over samples: coordinate descent on working sets.

A sample's working set holds the atoms that may have coefficients. In turn, coordinate descent moves the codes of the
working set through its own small Gram matrix; rows of the whole Gram matrix bring the correlations of all atoms with
the residual up to date; and greedy steps take in the atoms that the residual still calls for. Each round is more
precise than the last, and the duality gap says when to stop.
"""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes
from sparsecode_pl.coding.greedy_numba import CHUNK_BYTES
from sparsecode_pl.coding.scan_numba import gather, largest, sort_codes, subtract, use_torch_threads

# The working set is padded to whole vectors, so that the inner loops have no slow ends.
_LANES = 16
# The first round is precise to so much of lam/2, and each further one by so much more.
_FIRST, _FURTHER = 0.3, 0.1
# Sweeps between two certificates at most, which also clear away what sweeps have rounded off.
_MAX_SWEEPS = 50
# NaN and the sign of zero do not occur or matter, and sums may be taken in any order; infinity does occur.
_FASTMATH = {"nnan", "nsz", "contract", "reassoc"}


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _update(dot: np.ndarray, gram: np.ndarray, chosen: np.ndarray, moves: np.ndarray, count: int) -> None:
    """Subtract rows of the Gram matrix, times their moves: four at a time, so that waits for memory overlap."""
    for t in range(0, count - count % 4, 4):
        a0, a1, a2, a3 = moves[t], moves[t + 1], moves[t + 2], moves[t + 3]
        row0, row1, row2, row3 = gram[chosen[t]], gram[chosen[t + 1]], gram[chosen[t + 2]], gram[chosen[t + 3]]
        for i in range(len(dot)):
            dot[i] -= a0 * row0[i] + a1 * row1[i] + a2 * row2[i] + a3 * row3[i]
    for t in range(count - count % 4, count):
        a, row = moves[t], gram[chosen[t]]
        for i in range(len(dot)):
            dot[i] -= a * row[i]


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _descend(
    small: np.ndarray, codes: np.ndarray, near: np.ndarray, count: int, half: Any, enough: Any, max_sweeps: int
) -> int:
    """Cyclic coordinate descent on the working set until no coefficient moves by more than `enough`."""
    width = (count + _LANES - 1) // _LANES * _LANES
    whole = near[:width]
    for sweep in range(max_sweeps):
        largest = half * 0
        for t in range(count):
            move = max(near[t] - half, -codes[t])
            if move != 0:
                codes[t] += move
                largest = max(largest, abs(move))
                row = small[t, :width]
                for u in range(width):
                    whole[u] -= move * row[u]
        if largest <= enough:
            return sweep + 1
    return max_sweeps


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _dot(atom: np.ndarray, residual: np.ndarray) -> float:
    total = 0.0
    for i in range(len(residual)):
        total += np.float64(atom[i]) * residual[i]
    return total


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def _relative_gap(
    x: np.ndarray,
    atoms: np.ndarray,
    chosen: np.ndarray,
    codes: np.ndarray,
    near: np.ndarray,
    count: int,
    place: int,
    half: float,
) -> float:
    """The relative duality gap in float64, `place` being the best atom outside of the working set.

    The correlations `near` of the working set are computed afresh: without it, what the updates have rounded off would
    add 1e-5 to the gap in float32.
    """
    residual = x.astype(np.float64)
    total = 0.0
    for t in range(count):
        a, atom = np.float64(codes[t]), atoms[chosen[t]]
        total += a
        for i in range(len(residual)):
            residual[i] -= a * np.float64(atom[i])
    top = _dot(atoms[place], residual)
    for t in range(count):
        dot = _dot(atoms[chosen[t]], residual)
        top = max(top, dot)
        near[t] = dot
    square, along = 0.0, 0.0
    for i in range(len(residual)):
        square += residual[i] * residual[i]
        along += residual[i] * np.float64(x[i])
    primal = square + 2 * half * total
    if primal == 0:
        return 0.0
    shrink = half / max(top, half)
    return (primal - shrink * (2 * along - shrink * square)) / primal


@numba.njit(cache=True, nogil=True)
def _enlarged(small: np.ndarray) -> np.ndarray:
    larger = np.zeros((2 * len(small), 2 * len(small)), small.dtype)
    larger[: len(small), : len(small)] = small
    return larger


@numba.njit(cache=True, nogil=True)
def _solve(
    dot: np.ndarray,
    gram: np.ndarray,
    x: np.ndarray,
    atoms: np.ndarray,
    warm_atoms: np.ndarray,
    warm_codes: np.ndarray,
    half: Any,
    tol: float,
    max_iter: int,
    found: np.ndarray,
) -> Any:
    """Turn `dot`, the correlations of a sample with the atoms, into its code; return non-zeros, gap, sweeps.

    The values come to stand at the front of `dot`, and their atoms at the front of `found` (m,).
    """
    kind = dot.dtype.type
    # The working set: its atoms, their codes, those that `dot` reflects, and their correlations, padded by zeros.
    room = len(dot) + _LANES
    chosen = np.empty(room, np.int64)
    codes, reflected, moves = np.empty(room, dot.dtype), np.zeros(room, dot.dtype), np.empty(room, dot.dtype)
    near = np.zeros(room, dot.dtype)
    small = np.zeros((4 * _LANES, 4 * _LANES), dot.dtype)
    count = len(warm_atoms)
    while len(small) < count:
        small = _enlarged(small)
    for t in range(count):
        chosen[t], codes[t], near[t] = warm_atoms[t], warm_codes[t], dot[warm_atoms[t]]
        dot[warm_atoms[t]] = -np.inf  # and stays so: the atom is in the working set
    for t in range(count):
        row = gram[chosen[t]]
        for u in range(count):
            small[t, u] = row[chosen[u]]
            near[u] -= codes[t] * small[t, u]

    norm = np.sqrt((x.astype(np.float64) ** 2).sum())
    rounding = np.finfo(dot.dtype).eps * norm
    precision = max(rounding, _FIRST * half)
    sweeps, last_gap = 0, np.inf
    while True:
        most = min(_MAX_SWEEPS, max_iter - sweeps)
        done = _descend(small, codes, near, count, half, kind(precision), most) if count else 0
        sweeps += done
        for t in range(count):
            moves[t] = codes[t] - reflected[t]
            reflected[t] = codes[t]
        _update(dot, gram, chosen, moves, count)
        place = largest(dot)
        gap = _relative_gap(x, atoms, chosen, codes, near, count, place, np.float64(half))
        if gap <= tol or sweeps >= max_iter:
            break
        before = count
        while dot[place] > half + max(precision, rounding):
            if count == len(small):
                small = _enlarged(small)
            row = gram[place]
            a = dot[place] - half
            for t in range(count):
                small[count, t] = small[t, count] = row[chosen[t]]
                near[t] -= a * row[chosen[t]]
            small[count, count] = row[place]
            chosen[count], codes[count], reflected[count], near[count] = place, a, a, dot[place] - a * row[place]
            count += 1
            dot[place] = -np.inf
            place = subtract(dot, row, a)
        if precision <= rounding and count == before:
            if gap > 0.9 * last_gap:
                break  # numbers of this type cannot do better
            last_gap = gap
        if done < _MAX_SWEEPS:  # what was asked for is reached
            precision = max(rounding / 16, _FURTHER * precision)

    num = 0
    for t in range(count):
        if codes[t] > 0:
            found[num], codes[num] = chosen[t], codes[t]
            num += 1
    sort_codes(dot, found, codes, num)
    return num, gap, sweeps


@numba.njit(parallel=True, cache=True, nogil=True)
def _lasso(
    dots: np.ndarray,
    gram: np.ndarray,
    x: np.ndarray,
    atoms: np.ndarray,
    warm_crow: np.ndarray,
    warm_col: np.ndarray,
    warm_values: np.ndarray,
    half: Any,
    tol: float,
    max_iter: int,
    found: np.ndarray,
    counts: np.ndarray,
    gaps: np.ndarray,
    sweeps: np.ndarray,
) -> None:
    """Solve every sample; its code comes to stand in its rows of `dots` and `found` (n, m)."""
    for sample in numba.prange(len(dots)):
        warm = slice(warm_crow[sample], warm_crow[sample + 1])
        counts[sample], gaps[sample], sweeps[sample] = _solve(
            dots[sample],
            gram,
            x[sample],
            atoms,
            warm_col[warm],
            warm_values[warm],
            half,
            tol,
            max_iter,
            found[sample],
        )


def lasso_numba(
    x: Tensor, atoms: Tensor, lam: float, tol: float, warm_start: Tensor | None, max_iter: int, gram: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`lasso_encode` on checked CPU input, in chunks of samples."""
    use_torch_threads()
    x, atoms = x.detach().contiguous(), atoms.detach().contiguous()
    n, m = len(x), len(atoms)
    table = gram.detach().to(x.dtype).contiguous().numpy()
    dtype = table.dtype
    if warm_start is None:
        warm_crow, warm_col, warm_values = np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.empty(0, dtype)
    else:
        parts = (warm_start.crow_indices().long(), warm_start.col_indices().long(), warm_start.values().to(x.dtype))
        warm_crow, warm_col, warm_values = (part.detach().contiguous().numpy() for part in parts)
    counts, gaps, sweeps = np.zeros(n, np.int64), np.empty(n), np.empty(n, np.int64)
    crow = np.zeros(n + 1, np.int64)
    cols, values = [np.empty(0, np.int64)], [np.empty(0, dtype)]
    num_rows = min(max(1, n), max(1, CHUNK_BYTES // table[0].nbytes))
    buffer, places = x.new_empty(num_rows, m), np.empty((num_rows, m), np.int32)
    for start in range(0, n, num_rows):
        part = slice(start, min(start + num_rows, n))
        dots = torch.mm(x[part], atoms.T, out=buffer[: part.stop - start]).numpy()
        warm = warm_crow[part.start : part.stop + 1], warm_col, warm_values
        found = places[: len(dots)]
        out = found, counts[part], gaps[part], sweeps[part]
        _lasso(
            *(dots, table, x[part].numpy(), atoms.numpy()),
            *warm,
            *(dtype.type(lam / 2), tol, max_iter),
            *out,
        )
        local = np.concatenate([crow[:1], counts[part].cumsum()])
        cols.append(np.empty(local[-1], np.int64))
        values.append(np.empty(local[-1], dtype))
        gather(dots, found, local, cols[-1], values[-1])
    crow[1:] = counts.cumsum()
    col, value = torch.from_numpy(np.concatenate(cols)), torch.from_numpy(np.concatenate(values))
    return csr_codes(torch.from_numpy(crow), col, value, m), torch.from_numpy(gaps), torch.from_numpy(sweeps)
