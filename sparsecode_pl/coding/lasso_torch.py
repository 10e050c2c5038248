"""The exact coefficients in plain PyTorch: the readable reference, for any device."""

import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes, row_pointers

# Maximum number of dense (samples, m) matrices held at a time: the codes found, the current and the last ones, their
# correlations, the next codes and their intermediate results, and copies while finished samples are removed.
_DENSE = 12


def lasso_torch(
    x: Tensor, atoms: Tensor, lam: float, tol: float, start: Tensor, max_iter: int, memory: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`lasso_encode` on checked input, from given codes, in blocks of samples whose dense codes fit into the memory."""
    row_bytes = _DENSE * len(atoms) * atoms.element_size()
    num_rows = max(1, memory // row_bytes)
    step = 1 / torch.linalg.eigvalsh(atoms.T @ atoms)[-1]  # 1 over the square of the largest singular value
    parts = []
    for first in range(0, max(1, len(x)), num_rows):
        block = slice(first, first + num_rows)
        parts.append(_descend(x[block], atoms, lam, tol, dense_rows(start, block).to(x.dtype), max_iter, step))
    rows, cols, values, gaps, iterations = (list(part) for part in zip(*parts, strict=True))
    counts = torch.cat([row.bincount(minlength=len(gap)) for row, gap in zip(rows, gaps, strict=True)])
    return (
        csr_codes(row_pointers(counts), torch.cat(cols), torch.cat(values), len(atoms)),
        torch.cat(gaps),
        torch.cat(iterations),
    )


def dense_rows(codes: Tensor, block: slice) -> Tensor:
    """Some rows of a CSR matrix, dense."""
    crow = codes.crow_indices()[block.start : block.stop + 1]
    inside = slice(int(crow[0]), int(crow[-1]))
    col, values = codes.col_indices()[inside], codes.values()[inside]
    return csr_codes(crow - crow[0], col, values, codes.shape[1]).to_dense()


def _descend(
    x: Tensor, atoms: Tensor, lam: float, tol: float, found: Tensor, max_iter: int, step: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Accelerated projected gradient from the codes `found`; finished samples are removed.

    This is FISTA (Beck and Teboulle 2009) with restarts (O'Donoghue and Candes 2015): a sample's momentum is dropped
    when it points uphill.

    Returns:
        Rows, columns and values of the codes; gaps and iterations of the samples.
    """
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
    return row, col, found[row, col], gaps, iterations


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
