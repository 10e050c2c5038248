"""The refinement of greedy codes compiled for the CPU, with threads that share the samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.greedy_numba import codes_of_chunks
from sparsecode_pl.coding.kernels import select_rows, sweep_rows
from sparsecode_pl.coding.threads import chunk_rows, share_rows

_Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def refined_numba(
    x: Tensor, atoms: Tensor, lam: float, least: Tensor, start: Tensor, rounds: int, sweeps: int
) -> Tensor:
    """The refinement of `refined_encode` on checked CPU input, in chunks of samples.

    Args:
        x: the samples, (n, d).
        atoms: (m, d).
        lam: penalty.
        least: by how much the dot products of each sample must exceed lam / 2 for new atoms, (n,), dtype of x.
        start: greedy codes, sparse CSR (n, m).
        rounds: number of rounds.
        sweeps: sweeps per round.
    """
    # As arrays, because tensors made in inference mode cannot be used in other threads.
    samples, dictionary = x.detach().numpy(), atoms.detach().contiguous().numpy()
    start_crow, start_cols, start_values = (
        part.numpy() for part in (start.crow_indices(), start.col_indices(), start.values())
    )
    bounds = least.numpy()
    kind, m = dictionary.dtype.type, len(dictionary)
    half = kind(lam / 2)
    num_rows = chunk_rows(len(x), m * dictionary.itemsize)

    def start_thread() -> Callable[[slice], _Found]:
        transposed = torch.from_numpy(dictionary).T
        dots = torch.empty(num_rows, m, dtype=transposed.dtype)
        # Only the parts that are written to take memory.
        cols_buffer, values_buffer = np.empty(num_rows * m, np.int64), np.empty(num_rows * m, kind)

        def refine(rows: slice) -> _Found:
            part = samples[rows]
            crow = start_crow[rows.start : rows.stop + 1]
            inside = slice(crow[0], crow[-1])
            crow, cols, values = crow - crow[0], start_cols[inside], start_values[inside].copy()
            residuals = np.array(part, order="C")
            for number in range(rounds):
                if number:
                    product: Any = torch.mm(torch.from_numpy(residuals), transposed, out=dots[: len(part)]).numpy()
                    new_crow = np.empty_like(crow)
                    new = new_crow, cols_buffer, values_buffer
                    total = select_rows(product, half, bounds[rows], crow, cols, values, *new)
                    crow, cols, values = new_crow, cols_buffer[:total].copy(), values_buffer[:total].copy()
                sweep_rows(residuals, dictionary, crow, cols, values, half, sweeps, number > 0)
            kept = values > 0
            ends = np.concatenate([[0], kept.cumsum()])
            return np.diff(ends[crow]), cols[kept], values[kept]

        return refine

    return codes_of_chunks(share_rows(len(x), num_rows, start_thread), m, kind)
