"""All compiled functions, for one thread and samples on the CPU: greedy step, refinement, exact solver, sums of rows.

They stand in one file because numba keeps machine code on disk by the file of the function that is called. A change in
a function of another file would go unnoticed. For the same reason this file imports nothing from this package.

Each sample has a row `dot` of its correlations with all atoms, which the greedy step and the exact solver keep up to
date by rows of the Gram matrix.

The refinement needs no Gram matrix. Its sweeps keep the residuals up to date, and the correlations of many samples are
then one matrix product.

The exact solver is coordinate descent on working sets. A sample's working set holds the atoms that may have
coefficients. Three things alternate: coordinate descent changes the codes of the working set, using its own small Gram
matrix; rows of the whole Gram matrix bring the correlations of all atoms with the residual up to date; and greedy steps
add the atoms that the residual still asks for. Each round is more precise than the last, and the duality gap decides
when to stop.

Where atoms crowd the sphere, many of them can code the same residual, and coordinate descent moves between them for
thousands of sweeps. For such samples an active-set method takes over. It keeps linearly independent atoms only, solves
for their codes exactly, and exchanges atoms until no other atom lowers the objective.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import extending, types

_typed_intrinsic: Any = extending.intrinsic  # numba's own type does not fit what it returns
# Atoms in a block: short enough that finding the place of the maximum costs little, long enough to vectorise well.
_BLOCK = 256
# The working set is padded to whole vectors, so that the inner loops have no slow ends.
_LANES = 16
# The first round stops at this share of lam / 2, and each further round at this share of the last precision.
_FIRST, _FURTHER = 0.3, 0.1
# Maximum sweeps between two certificates. A certificate also removes the rounding errors of the sweeps.
_MAX_SWEEPS = 50
# An atom counts as dependent on the active atoms if its part outside their span is not longer than this.
_DEPENDENT = 1e-8
# The refinement moves each coefficient so many times as far as to the minimum along it. Between 0 and 2 this never
# raises the objective; above 1 it converges faster where many atoms are active (successive over-relaxation).
RELAXATION = 1.5
# Correlations that are looked at together to find the few that are large.
_GROUP = 16
# NaN does not occur, but infinity does. The sign of zero and the order of sums do not matter.
_FASTMATH = {"nnan", "nsz", "contract", "reassoc"}


def kept_on_disk(function: Any) -> Any:
    """Let numba keep the machine code of a compiled function on disk, if it finds a folder to write to.

    It tries NUMBA_CACHE_DIR if that is set, the folder of this package, and the user's cache folder.
    """
    try:
        function.enable_caching()
    except RuntimeError:  # no folder is writable: every process compiles for itself
        return function
    return function


def _compiled(fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that runs without Python's lock."""
    return numba.njit(nogil=True, fastmath=fastmath)


# --- passes over the correlations ----------------------------------------------------------------------------------


@_typed_intrinsic
def _bits(_: Any, value: types.Float) -> Any:
    """The bits of a float as an integer of the same width.

    Positive floats are ordered like their bits, and negative ones are negative integers. A maximum over the bits that
    starts at 0 therefore finds the largest positive float. LLVM vectorises this, but not a maximum of floats.
    """
    width: Any = {types.float32: types.int32, types.float64: types.int64}[value]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return width(value), codegen


@_compiled()
def _find(dot: np.ndarray, top: Any, place: int) -> Any:
    """The index of the value with the bits `top`, which is at `place` or after it."""
    if top > 0:
        while _bits(dot[place]) != top:
            place += 1
    return place


@_compiled()
def _largest(dot: np.ndarray) -> Any:
    """The atom of the largest correlation, the first of equals; any atom where no correlation is positive."""
    zero = _bits(dot.dtype.type(0))
    top, place = zero, 0
    for start in range(0, len(dot), _BLOCK):
        part = dot[start : start + _BLOCK]
        best = zero
        for i in range(len(part)):
            best = max(best, _bits(part[i]))
        if best > top:
            top, place = best, start
    return _find(dot, top, place)


@_compiled(fastmath={"contract"})
def _subtract(dot: np.ndarray, row: np.ndarray, a: Any) -> Any:
    """Subtract `a` times a row of the Gram matrix, and return `_largest` of the result, in one pass."""
    zero = _bits(dot.dtype.type(0))
    top, place = zero, 0
    for start in range(0, len(dot), _BLOCK):
        part, gram_part = dot[start : start + _BLOCK], row[start : start + _BLOCK]
        best = zero
        for i in range(len(part)):
            value = part[i] - a * gram_part[i]
            part[i] = value
            best = max(best, _bits(value))
        if best > top:
            top, place = best, start
    return _find(dot, top, place)


@_compiled()
def _sort(chosen: np.ndarray, codes: np.ndarray, count: int, cols: np.ndarray, values: np.ndarray) -> None:
    """Write the first `count` chosen atoms and their codes to the front of `cols` and `values`, by insertion sort."""
    for i in range(count):
        atom, value = chosen[i], codes[i]
        j = i
        while j > 0 and cols[j - 1] > atom:
            cols[j], values[j] = cols[j - 1], values[j - 1]
            j -= 1
        cols[j], values[j] = atom, value


@_compiled()
def _write_sorted(
    dot: np.ndarray, chosen: np.ndarray, codes: np.ndarray, count: int, cols: np.ndarray, values: np.ndarray
) -> None:
    """Write the first `count` chosen atoms and their codes to the front of `cols` and `values`, sorted by atom.

    The correlations `dot` are no longer needed and may be overwritten.
    """
    if count * count <= 4 * len(dot):
        _sort(chosen, codes, count, cols, values)
    else:  # write them to their places, and read them again in order
        dot[:] = 0
        for i in range(count):
            dot[chosen[i]] = codes[i]
        place = 0
        for atom in range(len(dot)):
            if dot[atom] != 0:
                cols[place], values[place] = atom, dot[atom]
                place += 1


# --- the dictionary step -------------------------------------------------------------------------------------------


@kept_on_disk
@_compiled()
def transpose(
    crow: np.ndarray, col: np.ndarray, values: np.ndarray, start: np.ndarray, row: np.ndarray, weights: np.ndarray
) -> None:
    """Sort the entries of a CSR matrix by their columns, and within a column by their rows.

    Args:
        crow: where the entries of each row begin in the next two, and where the last end, (n + 1,).
        col: their columns, (nnz,).
        values: their values, (nnz,).
        start: receives where the entries of each column begin in the next two, and where the last end, (m + 1,); all
            are 0 before.
        row: receives their rows, (nnz,).
        weights: receives their values, (nnz,).
    """
    for entry in range(len(col)):
        start[col[entry] + 1] += 1
    for column in range(1, len(start)):
        start[column] += start[column - 1]
    place = start.copy()
    for number in range(len(crow) - 1):
        for entry in range(crow[number], crow[number + 1]):
            found = place[col[entry]]
            row[found], weights[found] = number, values[entry]
            place[col[entry]] = found + 1


@kept_on_disk
@_compiled(fastmath={"contract"})
def add_weighted_rows(
    start: np.ndarray, number: np.ndarray, weights: np.ndarray, rows: np.ndarray, sums: np.ndarray
) -> None:
    """Add weighted rows to each of several sums, in float64 and in any order.

    Args:
        start: where the entries of each sum begin in the next two, and where the last end, (k + 1,).
        number: which row each entry adds, (nnz,).
        weights: its weight, (nnz,).
        rows: the rows, (n, d).
        sums: what they are added to, (k, d) float64.
    """
    for place in range(len(sums)):
        total, end = sums[place], start[place + 1]
        for entry in range(start[place], end, 2):  # two at a time: the sums are read and written half as often
            paired = entry + 1 < end
            other = entry + 1 if paired else entry
            first, second = rows[number[entry]], rows[number[other]]
            weight, further = np.float64(weights[entry]), np.float64(weights[other]) if paired else 0.0
            for i in range(len(total)):
                total[i] += weight * np.float64(first[i]) + further * np.float64(second[i])


# --- the greedy step -----------------------------------------------------------------------------------------------


@kept_on_disk
@_compiled()
def greedy_rows(
    dots: np.ndarray,
    gram: np.ndarray,
    half: Any,
    least: np.ndarray,
    max_atoms: int,
    counts: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
) -> int:
    """Find the greedy codes of samples.

    Args:
        dots: correlations of the samples with the atoms, (n, m); they are overwritten.
        gram: Gram matrix of the atoms, (m, m).
        half: lam / 2, of the dtype of `dots`.
        least: what a coefficient of each sample must exceed, (n,), of the same dtype.
        max_atoms: maximum atoms per sample, from 1 to m.
        counts: receives the number of codes of each sample, (n,).
        cols: receives the atoms, sample by sample, ascending within each; of length n * max_atoms.
        values: receives their codes likewise.

    Returns:
        The number of all codes.
    """
    chosen, codes = np.empty(max_atoms, np.int64), np.empty(max_atoms, dots.dtype)
    total = 0
    for sample in range(len(dots)):
        dot, enough = dots[sample], least[sample]
        count = 0
        atom = _largest(dot)
        a = dot[atom] - half
        while count < max_atoms and a > enough:
            chosen[count], codes[count] = atom, a
            count += 1
            dot[atom] = -np.inf  # and stays so: no atom is chosen twice
            atom = _subtract(dot, gram[atom], a)
            a = dot[atom] - half
        _write_sorted(dot, chosen, codes, count, cols[total:], values[total:])
        counts[sample] = count
        total += count
    return total


# --- the refinement ------------------------------------------------------------------------------------------------


@kept_on_disk
@_compiled(_FASTMATH)
def sweep_rows(
    residuals: np.ndarray,
    atoms: np.ndarray,
    crow: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    half: Any,
    sweeps: int,
    known: bool,
) -> None:
    """Over-relaxed coordinate descent over the atoms that are listed for each sample.

    Args:
        residuals: the residuals of the codes, or the samples, (n, d); they become the residuals of the new codes.
        atoms: (m, d).
        crow: where the codes of each sample begin in the next two, and where the last end, (n + 1,).
        cols: atoms.
        values: their codes, >= 0; they are overwritten, and may become 0.
        half: lam / 2, of the dtype of `residuals`.
        sweeps: number of sweeps.
        known: whether `residuals` are those of the codes.
    """
    kind = residuals.dtype.type
    for sample in range(len(residuals)):
        residual = residuals[sample]
        first, last = crow[sample], crow[sample + 1]
        before, move = atoms[0], kind(0)  # a move that the residual does not account for yet
        for t in range(first, first if known else last):
            atom, a = atoms[cols[t]], values[t]
            for i in range(len(residual)):
                residual[i] -= a * atom[i]
        for _ in range(sweeps):
            for t in range(first, last):
                atom = atoms[cols[t]]
                dot = kind(0)
                if move != 0:  # one pass for both, since memory is slower than arithmetic
                    for i in range(len(residual)):
                        residual[i] -= move * before[i]
                        dot += atom[i] * residual[i]
                else:
                    for i in range(len(residual)):
                        dot += atom[i] * residual[i]
                move = max(kind(RELAXATION) * (dot - half), -values[t])
                values[t] += move
                before = atom
        for i in range(len(residual)):
            residual[i] -= move * before[i]


@kept_on_disk
@_compiled()
def select_rows(
    dots: np.ndarray,
    half: Any,
    least: np.ndarray,
    crow: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    new_crow: np.ndarray,
    new_cols: np.ndarray,
    new_values: np.ndarray,
) -> int:
    """List the atoms of each sample anew: those with a code, and those whose correlation exceeds lam / 2.

    Args:
        dots: correlations of the residuals with the atoms, (n, m); they are overwritten.
        half: lam / 2, of the dtype of `dots`.
        least: by how much the correlations of each sample must exceed it, (n,), of the same dtype.
        crow: where the codes of each sample begin in the next two, and where the last end, (n + 1,).
        cols: atoms, ascending within each sample.
        values: their codes, >= 0.
        new_crow: receives the same for the new list, (n + 1,).
        new_cols: receives the atoms, sample by sample, ascending within each; of length n * m.
        new_values: receives their codes, 0 for atoms that had none.

    Returns:
        The number of all entries of the new list.
    """
    zero = _bits(half - half)
    total = 0
    new_crow[0] = 0
    for sample in range(len(dots)):
        dot, bar = dots[sample], half + least[sample]
        t = crow[sample]
        for entry in range(t, crow[sample + 1]):
            if values[entry] > 0:
                dot[cols[entry]] = np.inf  # marks it
        for start in range(0, len(dot), _GROUP):
            part = dot[start : start + _GROUP]
            top = zero
            for i in range(len(part)):
                top = max(top, _bits(part[i]))
            if top > _bits(bar):
                for i in range(len(part)):
                    if part[i] > bar:
                        new_cols[total], new_values[total] = start + i, 0
                        if part[i] == np.inf:
                            while cols[t] < start + i:
                                t += 1
                            new_values[total] = values[t]
                        total += 1
        new_crow[sample + 1] = total
    return total


# --- the exact solver ----------------------------------------------------------------------------------------------


@_compiled(_FASTMATH)
def _update(dot: np.ndarray, gram: np.ndarray, chosen: np.ndarray, moves: np.ndarray, count: int) -> None:
    """Subtract rows of the Gram matrix, times their moves: four at a time, so that their memory accesses overlap."""
    for t in range(0, count - count % 4, 4):
        a0, a1, a2, a3 = moves[t], moves[t + 1], moves[t + 2], moves[t + 3]
        row0, row1, row2, row3 = gram[chosen[t]], gram[chosen[t + 1]], gram[chosen[t + 2]], gram[chosen[t + 3]]
        for i in range(len(dot)):
            dot[i] -= a0 * row0[i] + a1 * row1[i] + a2 * row2[i] + a3 * row3[i]
    for t in range(count - count % 4, count):
        a, row = moves[t], gram[chosen[t]]
        for i in range(len(dot)):
            dot[i] -= a * row[i]


@_compiled(_FASTMATH)
def _descend(
    small: np.ndarray, codes: np.ndarray, near: np.ndarray, count: int, half: Any, enough: Any, max_sweeps: int
) -> int:
    """Cyclic coordinate descent on the working set until no coefficient moves by more than `enough`."""
    width = (count + _LANES - 1) // _LANES * _LANES
    whole = near[:width]
    for sweep in range(max_sweeps):
        farthest = half * 0
        for t in range(count):
            move = max(near[t] - half, -codes[t])
            if move != 0:
                codes[t] += move
                farthest = max(farthest, abs(move))
                row = small[t, :width]
                for u in range(width):
                    whole[u] -= move * row[u]
        if farthest <= enough:
            return sweep + 1
    return max_sweeps


@_compiled(_FASTMATH)
def _dot(atom: np.ndarray, residual: np.ndarray) -> float:
    total = 0.0
    for i in range(len(residual)):
        total += np.float64(atom[i]) * residual[i]
    return total


@_compiled(_FASTMATH)
def _relative_gap(
    x: np.ndarray,
    atoms: np.ndarray,
    chosen: np.ndarray,
    codes: np.ndarray,
    near: np.ndarray,
    count: int,
    place: int,
    half: float,
) -> Any:
    """The relative duality gap in float64; `place` is the best atom outside the working set.

    The correlations `near` of the working set are computed anew. Otherwise the rounding errors of the updates would add
    1e-5 to the gap in float32.
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


@_compiled()
def _enlarged(small: np.ndarray) -> np.ndarray:
    larger = np.zeros((2 * len(small), 2 * len(small)), small.dtype)
    larger[: len(small), : len(small)] = small
    return larger


@_compiled()
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
    cols: np.ndarray,
    values: np.ndarray,
) -> Any:
    """Find the exact code of one sample, and write it to the front of `cols` and `values`; see `lasso_rows`.

    Returns:
        Number of non-zero codes, relative gap and number of sweeps.
    """
    kind = dot.dtype.type
    # The working set, padded: its atoms, their codes, the codes that `dot` accounts for, and their correlations.
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
        place = _largest(dot)
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
            place = _subtract(dot, row, a)
        if precision <= rounding and count == before:
            if gap > 0.9 * last_gap:
                break  # this dtype cannot do better
            last_gap = gap
        if done < _MAX_SWEEPS:  # the precision is reached
            precision = max(rounding / 16, _FURTHER * precision)

    num = 0
    for t in range(count):
        if codes[t] > 0:
            chosen[num], codes[num] = chosen[t], codes[t]
            num += 1
    _write_sorted(dot, chosen, codes, num, cols, values)
    return num, gap, sweeps


@kept_on_disk
@_compiled()
def lasso_rows(
    dots: np.ndarray,
    gram: np.ndarray,
    x: np.ndarray,
    atoms: np.ndarray,
    warm_crow: np.ndarray,
    warm_cols: np.ndarray,
    warm_values: np.ndarray,
    half: Any,
    tol: float,
    max_iter: int,
    counts: np.ndarray,
    gaps: np.ndarray,
    sweeps: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
) -> int:
    """Find the exact codes of samples.

    Args:
        dots: correlations of the samples with the atoms, (n, m); they are overwritten.
        gram: Gram matrix of the atoms, (m, m).
        x: the samples, (n, d).
        atoms: (m, d).
        warm_crow: where the starting codes of each sample begin in the next two, and where the last end, (n + 1,).
        warm_cols: atoms of the starting codes.
        warm_values: values of the starting codes.
        half: lam / 2, of the dtype of `dots`.
        tol: relative duality gap to reach, > 0.
        max_iter: maximum sweeps per sample, >= 1.
        counts: receives the number of codes of each sample, (n,).
        gaps: receives the relative duality gap of each sample, (n,).
        sweeps: receives the number of sweeps of each sample, (n,).
        cols: receives the atoms, sample by sample, ascending within each; of length n * m.
        values: receives their codes likewise.

    Returns:
        The number of all codes.
    """
    total = 0
    for sample in range(len(dots)):
        warm = slice(warm_crow[sample], warm_crow[sample + 1])
        counts[sample], gaps[sample], sweeps[sample] = _solve(
            dots[sample],
            gram,
            x[sample],
            atoms,
            warm_cols[warm],
            warm_values[warm],
            half,
            tol,
            max_iter,
            cols[total:],
            values[total:],
        )
        total += counts[sample]
    return total


# --- the active set ------------------------------------------------------------------------------------------------

# The active atoms are kept as the product of an orthonormal `basis`, a row for each, and an upper `triangle` (a QR
# decomposition). Their Gram matrix would square their condition. All is in float64.


@_compiled()
def _solve_triangle(triangle: np.ndarray, num: int, right: np.ndarray, solution: np.ndarray) -> None:
    for t in range(num - 1, -1, -1):
        total = right[t]
        for u in range(t + 1, num):
            total -= triangle[t, u] * solution[u]
        solution[t] = total / triangle[t, t]


@_compiled()
def _split(
    rest: np.ndarray, basis: np.ndarray, triangle: np.ndarray, num: int, along: np.ndarray, weights: np.ndarray
) -> Any:
    """Split an atom into a combination of the active atoms, with these weights, and a rest orthogonal to them.

    `rest` holds the atom, and receives the rest, whose norm is returned; `along` receives the atom's dot products with
    the basis.
    """
    for t in range(num):
        along[t] = 0
    for _ in range(2):  # once is not enough: rounding leaves a part in the span
        for t in range(num):
            product = _dot(basis[t], rest)
            along[t] += product
            for i in range(len(rest)):
                rest[i] -= product * basis[t, i]
    _solve_triangle(triangle, num, along, weights)
    return np.sqrt(_dot(rest, rest))


@_compiled()
def _append(
    rest: np.ndarray, outside: float, basis: np.ndarray, triangle: np.ndarray, num: int, along: np.ndarray
) -> None:
    """Append an atom that has been split."""
    for i in range(len(rest)):
        basis[num, i] = rest[i] / outside
    for t in range(num):
        triangle[t, num] = along[t]
    triangle[num, num] = outside


@_compiled()
def _remove(
    place: int, basis: np.ndarray, triangle: np.ndarray, active: np.ndarray, values: np.ndarray, num: int
) -> int:
    """Remove an active atom, and rotate the basis so that the triangle is one again; returns the number left."""
    for t in range(place, num - 1):
        active[t], values[t] = active[t + 1], values[t + 1]
        for u in range(t + 2):
            triangle[u, t] = triangle[u, t + 1]
    for t in range(place, num - 1):
        length = np.sqrt(triangle[t, t] ** 2 + triangle[t + 1, t] ** 2)
        cosine, sine = triangle[t, t] / length, triangle[t + 1, t] / length
        for u in range(t, num - 1):
            upper, lower = triangle[t, u], triangle[t + 1, u]
            triangle[t, u], triangle[t + 1, u] = cosine * upper + sine * lower, cosine * lower - sine * upper
        for i in range(basis.shape[1]):
            upper, lower = basis[t, i], basis[t + 1, i]
            basis[t, i], basis[t + 1, i] = cosine * upper + sine * lower, cosine * lower - sine * upper
    return num - 1


@_compiled()
def _settle(
    x: np.ndarray,
    half: float,
    basis: np.ndarray,
    triangle: np.ndarray,
    active: np.ndarray,
    values: np.ndarray,
    num: int,
    along: np.ndarray,
    weights: np.ndarray,
    residual: np.ndarray,
) -> int:
    """Solve for the codes of the active atoms, and remove atoms until all codes are positive; returns the number left.

    The residual then has the correlation lam / 2 with each of them.
    """
    while True:
        for t in range(num):
            total = half
            for u in range(t):
                total -= triangle[u, t] * weights[u]
            weights[t] = total / triangle[t, t]
        for t in range(num):
            along[t] = _dot(basis[t], x) - weights[t]
        _solve_triangle(triangle, num, along, values)
        place = -1
        for t in range(num):
            if values[t] <= 0 and (place < 0 or values[t] < values[place]):
                place = t
        if place < 0:
            break
        num = _remove(place, basis, triangle, active, values, num)
    for i in range(len(x)):
        residual[i] = x[i]
    for t in range(num):
        for i in range(len(x)):
            residual[i] -= along[t] * basis[t, i]
    return num


@_compiled()
def _best_atom(atoms: np.ndarray, residual: np.ndarray) -> Any:
    """The atom of the largest correlation with the residual, the first of equals."""
    place, top = 0, _dot(atoms[0], residual)
    for atom in range(1, len(atoms)):
        dot = _dot(atoms[atom], residual)
        if dot > top:
            place, top = atom, dot
    return place


@_compiled()
def _exchange(
    x: np.ndarray,
    atoms: np.ndarray,
    half: float,
    tol: float,
    max_steps: int,
    start_atoms: np.ndarray,
    start_codes: np.ndarray,
    active: np.ndarray,
    values: np.ndarray,
) -> Any:
    """Find the exact code of one sample by exchanges in its active set.

    The residual of the exact codes is the point nearest to x whose correlations are at most lam / 2. This is a
    quadratic program, here solved by the dual method of Goldfarb and Idnani (1983). Between steps the codes of the
    active atoms are exact. Each step takes in the atom of the largest correlation: its code grows until its correlation
    is lam / 2, and active atoms whose codes fall to 0 on the way are removed. So each step lowers the objective, and
    the active atoms, being independent, are never more than the dimensions.

    Args:
        x: the sample in float64, (d,).
        atoms: (m, d).
        half: lam / 2.
        tol: relative duality gap to reach, > 0.
        max_steps: maximum steps.
        start_atoms: atoms to start from, of which dependent ones are left out.
        start_codes: their codes, > 0; atoms of large codes are taken first.
        active: receives the active atoms, (min(m, d),).
        values: receives their codes, > 0, (min(m, d),).

    Returns:
        Number of active atoms, and number of steps.
    """
    room, width = len(active), len(x)
    basis, triangle = np.zeros((room, width)), np.zeros((room, room))
    along, weights = np.zeros(room), np.zeros(room)
    rest, residual = np.zeros(width), np.zeros(width)
    num = 0
    left = start_codes.copy()
    for _ in range(len(left)):
        place = 0
        for t in range(len(left)):
            if left[t] > left[place]:
                place = t
        left[place] = 0
        if num < room:
            for i in range(width):
                rest[i] = atoms[start_atoms[place], i]
            outside = _split(rest, basis, triangle, num, along, weights)
            if outside > _DEPENDENT:
                _append(rest, outside, basis, triangle, num, along)
                active[num] = start_atoms[place]
                num += 1
    num = _settle(x, half, basis, triangle, active, values, num, along, weights, residual)
    rounding = 4 * np.finfo(np.float64).eps * np.sqrt(_dot(x, x))
    for steps in range(max_steps):
        atom = _best_atom(atoms, residual)
        excess = _dot(atoms[atom], residual) - half
        # The relative gap is at most excess / (excess + half). Half of tol is left to the rounding of the codes.
        if excess <= max(tol / 2 * (excess + half), rounding):
            return num, steps
        while True:
            for i in range(width):
                rest[i] = atoms[atom, i]
            outside = _split(rest, basis, triangle, num, along, weights)
            step, place = np.inf, -1
            if outside > _DEPENDENT and num < room:
                step = excess / outside**2
            for t in range(num):
                if weights[t] > 0 and values[t] < step * weights[t]:
                    step, place = values[t] / weights[t], t
            if place < 0:
                break
            for t in range(num):
                values[t] -= step * weights[t]
            excess -= step * outside**2
            num = _remove(place, basis, triangle, active, values, num)
        if step == np.inf:  # rounding hides what is left to do
            return num, steps
        _append(rest, outside, basis, triangle, num, along)
        active[num] = atom
        num = _settle(x, half, basis, triangle, active, values, num + 1, along, weights, residual)
    return num, max_steps


@kept_on_disk
@_compiled()
def exchange_rows(
    x: np.ndarray,
    atoms: np.ndarray,
    half: Any,
    tol: float,
    max_iter: int,
    counts: np.ndarray,
    gaps: np.ndarray,
    iterations: np.ndarray,
    old_cols: np.ndarray,
    old_values: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
) -> int:
    """Bring the codes of `lasso_rows` to the tolerance where they miss it.

    Args:
        x: the samples, (n, d).
        atoms: (m, d).
        half: lam / 2, of the dtype of `x`.
        tol: relative duality gap to reach, > 0.
        max_iter: maximum iterations per sample.
        counts: number of codes of each sample, (n,); it is updated.
        gaps: relative duality gap of each sample, (n,); it is updated.
        iterations: number of iterations of each sample, (n,); steps are added to it.
        old_cols: atoms, sample by sample.
        old_values: their codes, > 0.
        cols: receives the atoms, sample by sample, ascending within each; may have to hold min(m, d) more for each
            sample that misses the tolerance.
        values: receives their codes likewise.

    Returns:
        The number of all codes.
    """
    room = min(atoms.shape)
    active, exact, near = np.empty(room, np.int64), np.empty(room), np.empty(room)
    codes = np.empty(room, values.dtype)
    eps = np.finfo(values.dtype).eps
    first, total = 0, 0
    for sample in range(len(x)):
        last = first + counts[sample]
        # Below this gap, rounding the codes to their dtype may undo what the exchange gains.
        limit = eps * np.sqrt(_dot(x[sample], x[sample].astype(np.float64))) / half
        better = False
        if gaps[sample] > max(tol, limit) and iterations[sample] < max_iter:
            num, steps = _exchange(
                x[sample].astype(np.float64),
                atoms,
                np.float64(half),
                tol,
                max_iter - iterations[sample],
                old_cols[first:last],
                old_values[first:last],
                active,
                exact,
            )
            iterations[sample] += steps
            residual = x[sample].astype(np.float64)
            for t in range(num):
                codes[t] = exact[t]
                for i in range(len(residual)):
                    residual[i] -= np.float64(codes[t]) * atoms[active[t], i]
            place = _best_atom(atoms, residual)
            gap = _relative_gap(x[sample], atoms, active, codes, near, num, place, np.float64(half))
            better = gap < gaps[sample]
        if better:
            gaps[sample], counts[sample] = gap, num
            _sort(active, codes, num, cols[total:], values[total:])
        else:
            for t in range(first, last):
                cols[total + t - first], values[total + t - first] = old_cols[t], old_values[t]
        total += counts[sample]
        first = last
    return total
