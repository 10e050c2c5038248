"""The refinement of greedy codes in plain PyTorch: the readable reference, for any device."""

import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes, row_pointers
from sparsecode_pl.coding.kernels import RELAXATION
from sparsecode_pl.coding.lasso_torch import dense_rows

# Maximum number of dense (samples, m) matrices held at a time: codes, correlations, which atoms are listed, and the
# sorting of these.
_DENSE = 6


def refined_torch(
    x: Tensor, atoms: Tensor, lam: float, least: Tensor, start: Tensor, rounds: int, sweeps: int, memory: int
) -> Tensor:
    """The refinement of `refined_encode` on checked input, in blocks of samples whose dense codes fit into the memory.

    Args:
        x: the samples, (n, d).
        atoms: (m, d).
        lam: penalty.
        least: by how much the dot products of each sample must exceed lam / 2 for new atoms, (n,), dtype of x.
        start: greedy codes, sparse CSR (n, m).
        rounds: number of rounds.
        sweeps: sweeps per round.
        memory: bytes that dense codes and correlations may take.
    """
    num_rows = max(1, memory // (_DENSE * len(atoms) * atoms.element_size()))
    counts, cols, values = [], [], []
    for first in range(0, max(1, len(x)), num_rows):
        block = slice(first, first + num_rows)
        codes = _refine(x[block], atoms, lam / 2, least[block, None], dense_rows(start, block), rounds, sweeps)
        row, col = codes.nonzero(as_tuple=True)
        counts.append(row.bincount(minlength=len(codes)))
        cols.append(col)
        values.append(codes[row, col])
    return csr_codes(row_pointers(torch.cat(counts)), torch.cat(cols), torch.cat(values), len(atoms))


def _refine(x: Tensor, atoms: Tensor, half: float, least: Tensor, codes: Tensor, rounds: int, sweeps: int) -> Tensor:
    """Refine dense codes (n, m)."""
    listed = codes > 0
    for number in range(rounds):
        residual = x - codes @ atoms
        if number:
            listed = (codes > 0) | (residual @ atoms.T > half + least)
        counts = listed.sum(1)
        longest = int(counts.max()) if len(counts) else 0
        # The listed atoms of each sample, ascending, padded at the end with others, which are passed over.
        chosen = (~listed).byte().argsort(dim=1, stable=True)[:, :longest]
        for _ in range(sweeps):
            for t in range(longest):
                column = chosen[:, t : t + 1]
                atom, a = atoms[column[:, 0]], codes.gather(1, column)
                move = torch.maximum(RELAXATION * ((residual * atom).sum(1, keepdim=True) - half), -a)
                move = torch.where(t < counts[:, None], move, 0)
                codes.scatter_(1, column, a + move)
                residual -= move * atom
    return codes
