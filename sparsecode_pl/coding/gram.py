"""The Gram matrix of the atoms, if it fits into memory and saves time."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.coding.precision import full_precision
from sparsecode_pl.coding.threads import chunk_rows, share_rows
from sparsecode_pl.utilities.memory import memory_budget

# Assumed steps per sample. The Gram matrix costs m products of d values for each atom; without it, each step of each
# sample costs m such products.
_STEPS = 32


def gram_matrix(atoms: Tensor, num_samples: int | None = None, memory: int | None = None) -> Tensor | None:
    """The dot products of all atoms with each other, or None if that does not pay.

    Args:
        atoms: unit rows, (m, d).
        num_samples: number of samples to encode; None for many.
        memory: maximum bytes it may take, >= 1; by default a quarter of the free memory of the atoms' device.

    Returns:
        (m, m), without gradient. None if it does not fit into the memory, or if there are so few samples that it would
        cost more than it saves. Codes with and without it agree up to rounding. If results must be equal to the last
        digit, set `memory`, because free memory varies.

    Raises:
        ValueError: `memory` is below 1.
    """
    m = len(atoms)
    if num_samples is not None and m > _STEPS * num_samples:
        return None
    if m * m * atoms.element_size() > memory_budget(memory, atoms.device):
        return None
    with torch.no_grad(), full_precision(atoms.device):
        return atoms.detach() @ atoms.detach().T if atoms.device.type != "cpu" else _shared_product(atoms.detach())


def _shared_product(atoms: Tensor) -> Tensor:
    """`atoms @ atoms.T` on the CPU: the lower half, which is copied to the upper."""
    source, m = atoms.contiguous().numpy(), len(atoms)
    gram = np.empty((m, m), source.dtype)

    def start_thread() -> Callable[[slice], None]:
        whole, result = torch.from_numpy(source), torch.from_numpy(gram)

        def multiply(rows: slice) -> None:
            first, last = m - rows.stop, m - rows.start  # from the end, since the longest rows should not come last
            product = torch.mm(whole[first:last], whole[:last].T)
            result[first:last, :last] = product
            result[:first, first:last] = product[:, :first].T

        return multiply

    share_rows(m, chunk_rows(m, gram[0].nbytes), start_thread)
    return torch.from_numpy(gram)
