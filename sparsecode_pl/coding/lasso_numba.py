"""The exact coefficients compiled for the CPU, with threads that share the samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.greedy_numba import codes_of_chunks
from sparsecode_pl.coding.kernels import exchange_rows, lasso_rows
from sparsecode_pl.coding.threads import chunk_rows, share_rows

_Found = tuple[np.ndarray, np.ndarray, np.ndarray]
# Sweeps of coordinate descent for each dimension, and at least, before the active set takes over. It takes about as
# many steps, and few samples need more sweeps where atoms do not crowd the sphere.
_PATIENCE, _LEAST_PATIENCE = 2, 50


def lasso_numba(
    x: Tensor, atoms: Tensor, lam: float, tol: float, warm_start: Tensor | None, max_iter: int, gram: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`lasso_encode` on checked CPU input, in chunks of samples."""
    # As arrays, because tensors made in inference mode cannot be used in other threads.
    samples, dictionary = x.detach().contiguous().numpy(), atoms.detach().contiguous().numpy()
    table = gram.detach().to(x.dtype).contiguous().numpy()
    kind = table.dtype.type
    n, m = len(samples), len(table)
    if warm_start is None:
        warm_crow, warm_cols, warm_values = np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.empty(0, kind)
    else:
        parts = (warm_start.crow_indices().long(), warm_start.col_indices().long(), warm_start.values().to(x.dtype))
        warm_crow, warm_cols, warm_values = (part.detach().contiguous().numpy() for part in parts)
    gaps, iterations = np.empty(n), np.empty(n, np.int64)
    patience = min(max_iter, max(_LEAST_PATIENCE, _PATIENCE * x.shape[1]))
    room = min(dictionary.shape)
    num_rows = chunk_rows(n, table[0].nbytes)

    def start_thread() -> Callable[[slice], _Found]:
        transposed = torch.from_numpy(dictionary).T
        dots = torch.empty(num_rows, m, dtype=transposed.dtype)
        cols, values = np.empty(num_rows * m, np.int64), np.empty(num_rows * m, kind)

        def encode(rows: slice) -> _Found:
            part = samples[rows]
            counts = np.empty(len(part), np.int64)
            product: Any = torch.mm(torch.from_numpy(part), transposed, out=dots[: len(part)]).numpy()
            warm = warm_crow[rows.start : rows.stop + 1], warm_cols, warm_values
            half, quality = kind(lam / 2), (counts, gaps[rows], iterations[rows])
            total = lasso_rows(product, table, part, dictionary, *warm, half, tol, patience, *quality, cols, values)
            found = cols[:total].copy(), values[:total].copy()
            missed = int((gaps[rows] > tol).sum())
            if missed and max_iter > patience:
                more = np.empty(total + missed * room, np.int64), np.empty(total + missed * room, kind)
                total = exchange_rows(part, dictionary, half, tol, max_iter, *quality, *found, *more)
                found = more[0][:total].copy(), more[1][:total].copy()
            return counts, *found

        return encode

    codes = codes_of_chunks(share_rows(n, num_rows, start_thread), m, kind)
    return codes, torch.from_numpy(gaps), torch.from_numpy(iterations)
