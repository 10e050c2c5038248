"""The greedy step compiled for the CPU, parallel over samples."""

from typing import Any

import numba
import numpy as np
import torch
from numba import extending, types
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes

_typed_intrinsic: Any = extending.intrinsic  # numba's own type does not fit what it returns
# Atoms a block: short enough that finding the place of the maximum costs little, long enough to vectorise well.
_BLOCK = 256
# Correlations held at a time. More would leave the cache for nothing, less would starve the matrix product.
_CHUNK_BYTES = 64 * 2**20


@_typed_intrinsic
def _bits(_: Any, value: types.Float) -> Any:
    """The bits of a float as an integer of the same width.

    Positive floats are ordered like their bits, and negative ones are negative integers, so that a running maximum
    from 0 on over the bits finds the largest positive float. LLVM vectorises it; a float maximum it does not.
    """
    width: Any = {types.float32: types.int32, types.float64: types.int64}[value]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return width(value), codegen


@numba.njit(parallel=True, cache=True, nogil=True)
def _greedy(dots: np.ndarray, gram: np.ndarray, half: Any, max_atoms: int, zero: Any, counts: np.ndarray) -> None:
    """Turn each row of `dots` (n, m), the correlations of a sample with the atoms, into its dense code, in place."""
    n, m = dots.shape
    num_blocks = (m + _BLOCK - 1) // _BLOCK
    for sample in numba.prange(n):
        dot = dots[sample]
        chosen = np.empty(max_atoms, np.int64)
        values = np.empty(max_atoms, dots.dtype)
        count = 0
        top, place = zero, 0
        for block in range(num_blocks):
            part = dot[block * _BLOCK : (block + 1) * _BLOCK]
            best = zero
            for i in range(len(part)):
                best = max(best, _bits(part[i]))
            if best > top:
                top, place = best, block
        while count < max_atoms and top > _bits(half):
            atom = place * _BLOCK
            while _bits(dot[atom]) != top:
                atom += 1
            a = dot[atom] - half
            chosen[count], values[count] = atom, a
            count += 1
            dot[atom] = -np.inf  # and stays so: no atom is chosen twice
            row = gram[atom]
            top = zero
            for block in range(num_blocks):
                part = dot[block * _BLOCK : (block + 1) * _BLOCK]
                gram_part = row[block * _BLOCK : (block + 1) * _BLOCK]
                best = zero
                for i in range(len(part)):
                    value = part[i] - a * gram_part[i]
                    part[i] = value
                    best = max(best, _bits(value))
                if best > top:
                    top, place = best, block
        dot[:] = 0
        for step in range(count):
            dot[chosen[step]] = values[step]
        counts[sample] = count


@numba.njit(parallel=True, cache=True, nogil=True)
def compress(dense: np.ndarray, crow: np.ndarray, col: np.ndarray, values: np.ndarray) -> None:
    """Gather the non-zero entries of `dense` (n, m) into the parts of a CSR matrix."""
    for sample in numba.prange(dense.shape[0]):
        place = crow[sample]
        if place < crow[sample + 1]:
            for atom in range(dense.shape[1]):
                if dense[sample, atom] != 0:
                    col[place], values[place] = atom, dense[sample, atom]
                    place += 1


def greedy_numba(x: Tensor, atoms: Tensor, lam: float, max_atoms: int) -> Tensor:
    """`greedy_encode` on checked CPU input, in chunks of samples."""
    # As many threads as PyTorch has, which several processes on one machine share the cores by.
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch.get_num_threads(), most))
    atoms = atoms.detach()
    gram = (atoms @ atoms.T).numpy()
    dtype = gram.dtype.type
    zero = np.int32(0) if dtype is np.float32 else np.int64(0)
    num_rows = max(1, _CHUNK_BYTES // gram[0].nbytes)
    crows, cols, values = [np.zeros(1, np.int64)], [], []
    for part in x.detach().split(num_rows) if len(x) else ():
        dots = (part @ atoms.T).numpy()
        counts = np.empty(len(part), np.int64)
        _greedy(dots, gram, dtype(lam / 2), max_atoms, zero, counts)
        crow = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        cols.append(np.empty(crow[-1], np.int64))
        values.append(np.empty(crow[-1], dtype))
        compress(dots, crow, cols[-1], values[-1])
        crows.append(crow[1:] + crows[-1][-1])
    if not cols:
        cols, values = [np.empty(0, np.int64)], [np.empty(0, dtype)]
    starts, chosen, coefficients = (torch.from_numpy(np.concatenate(part)) for part in (crows, cols, values))
    return csr_codes(starts, chosen, coefficients, len(atoms))
