"""The greedy step compiled for the CPU, with threads that share the samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes, row_pointers
from sparsecode_pl.coding.kernels import greedy_rows
from sparsecode_pl.coding.threads import chunk_rows, share_rows

# Result of a chunk of samples: the number of codes of each sample, and the atoms and values of all codes.
_Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def greedy_numba(x: Tensor, atoms: Tensor, lam: float, least: Tensor, max_atoms: int, gram: Tensor) -> Tensor:
    """`greedy_encode` on checked CPU input, in chunks of samples."""
    # As arrays, because tensors made in inference mode cannot be used in other threads.
    samples, dictionary, bounds = x.detach().numpy(), atoms.detach().numpy(), least.numpy()
    table = gram.detach().to(x.dtype).contiguous().numpy()
    kind = table.dtype.type
    num_rows = chunk_rows(len(x), table[0].nbytes)

    def start_thread() -> Callable[[slice], _Found]:
        transposed = torch.from_numpy(dictionary).T
        dots = torch.empty(num_rows, len(table), dtype=transposed.dtype)
        # Only the parts that are written to take memory.
        cols, values = np.empty(num_rows * max_atoms, np.int64), np.empty(num_rows * max_atoms, kind)

        def encode(rows: slice) -> _Found:
            part = torch.from_numpy(samples[rows])
            counts = np.empty(len(part), np.int64)
            product: Any = torch.mm(part, transposed, out=dots[: len(part)]).numpy()
            total = greedy_rows(product, table, kind(lam / 2), bounds[rows], max_atoms, counts, cols, values)
            return counts, cols[:total].copy(), values[:total].copy()

        return encode

    return codes_of_chunks(share_rows(len(x), num_rows, start_thread), len(table), kind)


def codes_of_chunks(found: list[_Found], num_atoms: int, kind: type) -> Tensor:
    """Assemble the codes of all chunks.

    Args:
        found: for each chunk, the number of codes of each sample, and the atoms and values of all codes.
        num_atoms: m.
        kind: dtype of the codes.
    """
    nothing: _Found = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, kind)
    counts, cols, values = (torch.from_numpy(np.concatenate(part)) for part in zip(nothing, *found, strict=True))
    return csr_codes(row_pointers(counts), cols, values, num_atoms)
