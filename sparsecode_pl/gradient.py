"""The gradient of the dictionary step, equal to the last bit on any number of processes.

A sum of floating-point numbers depends on its order, and so on how a batch is shared out over processes. A difference
in the last bit does not stay small: sooner or later it decides which of two atoms a sample takes first, and within a
hundred batches the dictionary is another one. Here the factors of each summand are first rounded to multiples of a
power of two, so fine that little is lost and so coarse that float64 adds their products without rounding, in any order.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.distributed import ReduceOp

from sparsecode_pl.coding.codes import sum_weighted_rows, transposed
from sparsecode_pl.coding.kernels import add_weighted_rows, transpose
from sparsecode_pl.coding.threads import share_rows
from sparsecode_pl.optimizer import moment_sums

# Bits of an integer up to which float64 represents all integers.
_EXACT = 53
# Bits that are kept of a factor at most: as many as float32 has.
_MOST = 24
# Exponent that a unit is not below, so that float32 represents it and its multiples.
_LEAST = -100
# Atoms that a thread takes at a time.
_ATOMS = 64


def dictionary_gradient(
    codes: Tensor, residual: Tensor, world_size: int = 1, unit: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The gradient of the mean squared residual in the atoms, with the codes fixed, and the moments of the codes.

    Both are means over the rows of all processes, and equal on all of them. On n rows in all, the coefficients of an
    atom are rounded to b = (53 - log2 n) / 2 bits of the largest of them, and so are the residuals in a dimension: 21
    bits for 1,024 rows, where float32 has 24. Everything else is exact, so that the order in which the threads of a GPU
    add makes no difference either. A row that is 1e5 times as large as the others costs them all but three digits.

    Args:
        codes: coefficients of this process's rows, sparse CSR (n, m).
        residual: rows minus their reconstruction, (n, d), in the units of the codes.
        world_size: number of processes, each of which calls this with equally many rows of its own. With 1, this
            process works alone.
        unit: what codes and residual are divided by, a power of two near their size.

    Returns:
        The gradient, (m, d), of the dtype of `residual`; and the mean of each atom's coefficients and of their squares,
        (2, m), as `moments_of` gives them.

    Example:
        >>> codes, residual = torch.tensor([[2.0, 1.0], [1.0, 4.0]]).to_sparse_csr(), torch.eye(2)
        >>> gradient, moments = dictionary_gradient(codes, residual)
        >>> gradient  # -2 / n codes.T @ residual
        tensor([[-2., -1.],
                [-1., -4.]])
        >>> moments
        tensor([[1.5000, 2.5000],
                [2.5000, 8.5000]])
    """
    reduce: Callable[..., object] = torch.distributed.all_reduce if world_size > 1 else _nothing
    crow, col, values = codes.crow_indices(), codes.col_indices(), codes.values() / unit
    residual = residual / unit
    num_atoms, num_rows = codes.shape[1], len(residual) * world_size
    bits = min(_MOST, (_EXACT - math.ceil(math.log2(num_rows))) // 2)
    largest = torch.cat([values.new_zeros(num_atoms).scatter_reduce_(0, col, values, "amax"), residual.abs().amax(0)])
    reduce(largest, ReduceOp.MAX)
    units = _units(largest, bits)
    values = _on_grid(values, units[:num_atoms][col])
    products = _products(crow, col, values, num_atoms, _on_grid(residual, units[num_atoms:]))
    sums = moment_sums(col, values.double(), num_atoms)
    reduce(products, ReduceOp.SUM)
    reduce(sums, ReduceOp.SUM)
    return products.mul_(-2 / num_rows).to(residual.dtype), (sums / num_rows).to(residual.dtype)


def _nothing(tensor: Tensor, op: object) -> None:
    """What a process that works alone has to exchange."""


def _units(largest: Tensor, bits: int) -> Tensor:
    """Powers of two of which numbers up to `largest` are at most `2**bits` multiples."""
    exponent = torch.frexp(largest).exponent - bits
    return torch.ldexp(torch.ones_like(largest), exponent.clamp(min=_LEAST))


def _on_grid(values: Tensor, units: Tensor) -> Tensor:
    """The nearest multiples of units."""
    return (values / units).round_().mul_(units)


def _products(crow: Tensor, col: Tensor, values: Tensor, num_atoms: int, rows: Tensor) -> Tensor:
    """The product of the transpose of a CSR matrix, (n, m), given by its three parts, with rows: (m, d) float64."""
    if rows.device.type != "cpu":
        start, row, weights = transposed(crow, col, values, num_atoms)
        return sum_weighted_rows(start, row, weights.double(), rows.double())
    starts = np.zeros(num_atoms + 1, np.int64)
    entries = [np.empty_like(part.numpy()) for part in (col, values)]
    transpose(crow.numpy(), col.numpy(), values.numpy(), starts, *entries)
    sums = np.zeros((num_atoms, rows.shape[1]))

    def start_thread() -> Callable[[slice], None]:
        def add(atoms: slice) -> None:
            add_weighted_rows(starts[atoms.start : atoms.stop + 1], *entries, rows.numpy(), sums[atoms])

        return add

    share_rows(num_atoms, _ATOMS, start_thread)
    return torch.from_numpy(sums)
