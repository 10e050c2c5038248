"""What the compiled solvers share: passes over the correlations of one sample with all atoms.

numba caches each solver by the date of its own file: after a change here, touch those that use it.
"""

from typing import Any

import numba
import numpy as np
import torch
from numba import extending, types

_typed_intrinsic: Any = extending.intrinsic  # numba's own type does not fit what it returns
# Atoms a block: short enough that finding the place of the maximum costs little, long enough to vectorise well.
_BLOCK = 256


@_typed_intrinsic
def _bits(_: Any, value: types.Float) -> Any:
    """The bits of a float as an integer of the same width.

    Positive floats are ordered like their bits, and negative ones are negative integers, so that a maximum over the
    bits that starts at 0 finds the largest positive float. LLVM vectorises it; a maximum of floats it does not.
    """
    width: Any = {types.float32: types.int32, types.float64: types.int64}[value]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return width(value), codegen


@numba.njit(cache=True, nogil=True)
def _find(dot: np.ndarray, top: Any, place: int) -> int:
    """Where the value with the bits `top` stands, from `place` on."""
    if top > 0:
        while _bits(dot[place]) != top:
            place += 1
    return place


@numba.njit(cache=True, nogil=True)
def largest(dot: np.ndarray) -> int:
    """The atom of the largest correlation, the first of equals; where none is positive it means nothing."""
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


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def subtract(dot: np.ndarray, row: np.ndarray, a: Any) -> int:
    """Subtract `a` times a row of the Gram matrix; return the `largest`, found on the way."""
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


@numba.njit(cache=True, nogil=True)
def sort_codes(dot: np.ndarray, chosen: np.ndarray, values: np.ndarray, count: int) -> None:
    """Sort the chosen atoms, with their values, by atom; the values go to the front of `dot`, which is used up."""
    if count * count <= 4 * len(dot):  # by insertion
        for i in range(count):
            atom, value = chosen[i], values[i]
            j = i
            while j > 0 and chosen[j - 1] > atom:
                chosen[j], dot[j] = chosen[j - 1], dot[j - 1]
                j -= 1
            chosen[j], dot[j] = atom, value
    else:  # by writing them to their places and reading them again
        dot[:] = 0
        for i in range(count):
            dot[chosen[i]] = values[i]
        place = 0
        for atom in range(len(dot)):
            if dot[atom] != 0:
                chosen[place], dot[place] = atom, dot[atom]
                place += 1


@numba.njit(parallel=True, cache=True, nogil=True)
def gather(dots: np.ndarray, chosen: np.ndarray, crow: np.ndarray, col: np.ndarray, values: np.ndarray) -> None:
    """Gather what `sort_codes` has left at the front of each row into the parts of a CSR matrix."""
    for sample in numba.prange(len(dots)):
        start = crow[sample]
        for i in range(crow[sample + 1] - start):
            col[start + i], values[start + i] = chosen[sample, i], dots[sample, i]


def use_torch_threads() -> None:
    """Let numba have as many threads as PyTorch, which several processes on one machine share the cores by."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch.get_num_threads(), most))
