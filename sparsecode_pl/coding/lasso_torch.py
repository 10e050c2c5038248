"""The exact coefficients in plain PyTorch: the readable reference, for any device."""

import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes
from sparsecode_pl.coding.greedy_torch import greedy_torch


def lasso_torch(
    x: Tensor, atoms: Tensor, lam: float, tol: float, warm_start: Tensor | None, max_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`lasso_encode` on checked input: accelerated projected gradient; samples that have finished leave.

    This is FISTA (Beck and Teboulle 2009) with restarts (O'Donoghue and Candes 2015): a sample's momentum is dropped
    when it points uphill.
    """
    start = greedy_torch(x, atoms, lam, len(atoms)) if warm_start is None else warm_start.to(x.dtype)
    step = 1 / torch.linalg.matrix_norm(atoms, ord=2).square()
    found = start.to_dense()
    gaps = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)

    sample = torch.arange(len(x), device=x.device)
    codes = last = found.clone()
    last_dots = (x - codes @ atoms) @ atoms.T
    pace = x.new_ones(len(x), 1)
    for iteration in range(max_iter + 1):
        residual = x - codes @ atoms
        dots = residual @ atoms.T
        gap = relative_gap(x, residual, dots, codes, lam)
        found[sample], gaps[sample], iterations[sample] = codes, gap, iteration
        going = gap > tol
        if not going.any() or iteration == max_iter:
            break
        sample, x, codes, last, dots, last_dots, pace = (
            part[going] for part in (sample, x, codes, last, dots, last_dots, pace)
        )
        next_pace = (1 + (1 + 4 * pace**2).sqrt()) / 2
        momentum = (pace - 1) / next_pace
        point = codes + momentum * (codes - last)
        new = (point + step * (dots + momentum * (dots - last_dots) - lam / 2)).clamp_(min=0)
        uphill = ((point - new) * (new - codes)).sum(1, keepdim=True) > 0
        codes, last, last_dots, pace = new, codes, dots, torch.where(uphill, 1.0, next_pace)

    row, col = found.nonzero(as_tuple=True)
    crow = torch.zeros(len(found) + 1, dtype=torch.int64, device=x.device)
    crow[1:] = torch.bincount(row, minlength=len(found)).cumsum(0)
    return csr_codes(crow, col, found[row, col], len(atoms)), gaps, iterations


def relative_gap(x: Tensor, residual: Tensor, dots: Tensor, codes: Tensor, lam: float) -> Tensor:
    """Duality gap over the objective, (n,) float64; see `lasso_encode`.

    Args:
        x: (n, d).
        residual: x - codes @ atoms, (n, d).
        dots: residual @ atoms.T, (n, m).
        codes: (n, m), >= 0.
        lam: penalty.
    """
    square = residual.double().square().sum(1)
    along = (residual.double() * x.double()).sum(1)
    primal = square + lam * codes.sum(1, dtype=torch.float64)
    shrink = (lam / 2 / dots.amax(1).double().clamp(min=lam / 2)).clamp(max=1)
    gap = primal - shrink * (2 * along - shrink * square)
    return torch.where(primal > 0, gap / primal, 0.0)
