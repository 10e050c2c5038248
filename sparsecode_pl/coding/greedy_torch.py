"""The greedy step in plain PyTorch: the readable reference, for any device."""

import torch
from torch import Tensor

from sparsecode_pl.coding.codes import codes_of_entries


def greedy_torch(x: Tensor, atoms: Tensor, lam: float, least: Tensor, max_atoms: int, gram: Tensor) -> Tensor:
    """`greedy_encode` on checked input: all samples take a step together, and finished samples are removed."""
    dots = x @ atoms.T  # r.f of every unfinished sample with every atom
    sample = torch.arange(len(x), device=x.device)
    rows, cols, values = [], [], []
    for _ in range(max_atoms):
        atom = dots.argmax(1)
        a = dots.gather(1, atom[:, None]).squeeze(1) - lam / 2
        going = a > least[sample]
        if not going.all():
            sample, dots, atom, a = sample[going], dots[going], atom[going], a[going]
        if len(sample) == 0:
            break
        dots.addcmul_(a[:, None], gram[atom].to(a), value=-1)
        dots.scatter_(1, atom[:, None], -torch.inf)  # no atom is chosen twice
        rows.append(sample)
        cols.append(atom)
        values.append(a)
    return codes_of_steps(rows, cols, values, x, len(atoms))


def codes_of_steps(rows: list[Tensor], cols: list[Tensor], values: list[Tensor], x: Tensor, num_atoms: int) -> Tensor:
    """Assemble the codes of all steps.

    Args:
        rows: the samples that took each step, int64.
        cols: the atoms they chose, int64.
        values: the coefficients.
        x: the samples, (n, d).
        num_atoms: m.
    """
    row, col = (
        torch.cat(part) if part else torch.empty(0, dtype=torch.int64, device=x.device) for part in (rows, cols)
    )
    value = torch.cat(values) if values else x.new_empty(0)
    return codes_of_entries(row, col, value, (len(x), num_atoms))
