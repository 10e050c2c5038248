"""The greedy step compiled for the CPU, parallel over samples."""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes
from sparsecode_pl.coding.scan_numba import gather, largest, sort_codes, subtract, use_torch_threads

# Correlations held at a time, with as much again for the chosen atoms. More would leave the cache, and fresh memory is
# dear; less would starve the matrix product.
CHUNK_BYTES = 16 * 2**20


@numba.njit(parallel=True, cache=True, nogil=True)
def _greedy(
    dots: np.ndarray, gram: np.ndarray, half: Any, max_atoms: int, chosen: np.ndarray, counts: np.ndarray
) -> None:
    """Turn each row of `dots` (n, m), the correlations of a sample with the atoms, into its code, in place.

    The values come to stand at the front of the row, and their atoms at the front of the row of `chosen` (n, m).
    """
    for sample in numba.prange(len(dots)):
        dot, atoms = dots[sample], chosen[sample]
        values = np.empty(max_atoms, dots.dtype)
        count = 0
        atom = largest(dot)
        while count < max_atoms and dot[atom] > half:
            a = dot[atom] - half
            atoms[count], values[count] = atom, a
            count += 1
            dot[atom] = -np.inf  # and stays so: no atom is chosen twice
            atom = subtract(dot, gram[atom], a)
        sort_codes(dot, atoms, values, count)
        counts[sample] = count


def greedy_numba(x: Tensor, atoms: Tensor, lam: float, max_atoms: int, gram: Tensor) -> Tensor:
    """`greedy_encode` on checked CPU input, in chunks of samples."""
    use_torch_threads()
    x, transposed, table = x.detach(), atoms.detach().T, gram.detach().to(x.dtype).contiguous().numpy()
    kind = table.dtype.type
    crows, cols, values = [np.zeros(1, np.int64)], [np.empty(0, np.int64)], [np.empty(0, kind)]
    num_rows = min(len(x), max(1, CHUNK_BYTES // table[0].nbytes))
    buffer, places = x.new_empty(num_rows, len(atoms)), np.empty((num_rows, len(atoms)), np.int32)
    for part in x.split(num_rows) if len(x) else ():
        dots = torch.mm(part, transposed, out=buffer[: len(part)]).numpy()
        chosen, counts = places[: len(part)], np.empty(len(part), np.int64)
        _greedy(dots, table, kind(lam / 2), max_atoms, chosen, counts)
        crow = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        cols.append(np.empty(crow[-1], np.int64))
        values.append(np.empty(crow[-1], kind))
        gather(dots, chosen, crow, cols[-1], values[-1])
        crows.append(crow[1:] + crows[-1][-1])
    starts, indices, coefficients = (torch.from_numpy(np.concatenate(part)) for part in (crows, cols, values))
    return csr_codes(starts, indices, coefficients, len(atoms))
