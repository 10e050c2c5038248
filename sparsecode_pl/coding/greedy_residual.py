"""The greedy step from the residual, without a Gram matrix: for many atoms or few samples."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsecode_pl.coding.codes import csr_codes, row_pointers
from sparsecode_pl.coding.greedy_torch import codes_of_steps

# A product of fewer rows may be computed in another way, and round otherwise. The codes of a sample would then depend
# on how many samples beside it are unfinished, and so on how processes share the samples out.
_LEAST_ROWS = 32


def greedy_residual(x: Tensor, atoms: Tensor, lam: float, max_atoms: int, memory: int) -> Tensor:
    """`greedy_encode` on checked input, on any device, in blocks of samples whose correlations fit into the memory."""
    # The correlations, and the residuals twice while finished samples are removed.
    row_bytes = (len(atoms) + 2 * atoms.shape[1]) * atoms.element_size()
    num_rows = max(1, memory // row_bytes)
    counts, cols, values = [], [], []
    for start in range(0, max(1, len(x)), num_rows):
        block = x[start : start + num_rows]
        codes = codes_of_steps(*_steps(block, atoms, lam, max_atoms), block, len(atoms))
        counts.append(codes.crow_indices().diff())
        cols.append(codes.col_indices())
        values.append(codes.values())
    crow = row_pointers(torch.cat(counts))
    return csr_codes(crow, torch.cat(cols), torch.cat(values), len(atoms))


def _steps(x: Tensor, atoms: Tensor, lam: float, max_atoms: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The samples that took each step, the atoms they chose, and the coefficients."""
    sample, residual = torch.arange(len(x), device=x.device), x.clone()
    chosen = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    buffer = torch.empty(len(x), len(atoms), dtype=x.dtype, device=x.device)
    least = min(len(x), _LEAST_ROWS)
    rows, cols, values = [], [], []
    for _ in range(max_atoms):
        padded = pad(residual, (0, 0, 0, max(0, least - len(residual))))
        dots = torch.mm(padded, atoms.T, out=buffer[: len(padded)])[: len(residual)]
        dots.scatter_(1, chosen, -torch.inf)  # no atom is chosen twice
        top, atom = dots.max(1)
        a = top - lam / 2
        going = a > 0
        if not going.all():
            sample, residual, chosen, atom, a = (part[going] for part in (sample, residual, chosen, atom, a))
        if len(sample) == 0:
            break
        residual.addcmul_(a[:, None], atoms[atom], value=-1)
        chosen = torch.cat([chosen, atom[:, None]], 1)
        rows.append(sample)
        cols.append(atom)
        values.append(a)
    return rows, cols, values
