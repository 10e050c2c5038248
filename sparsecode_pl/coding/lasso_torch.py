"""The exact coefficients in plain PyTorch: the readable reference, for any device."""

import torch
from torch import Tensor

from sparsecode_pl.coding.codes import csr_codes, row_pointers

# Maximum number of dense (samples, m) matrices held at a time: the codes found, the current and the last ones, their
# correlations, the next codes and their intermediate results, and copies while finished samples are removed.
_DENSE = 12
# Gradient steps for each dimension, and at least, before the active set takes over.
_PATIENCE, _LEAST_PATIENCE = 10, 200
# An atom counts as dependent on the active atoms if its part outside their span is not longer than this.
_DEPENDENT = 1e-8
# Maximum number of matrices as large as the active atoms that the active set holds for each sample at a time.
_FACTORS = 8


def lasso_torch(
    x: Tensor, atoms: Tensor, lam: float, tol: float, start: Tensor, max_iter: int, memory: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`lasso_encode` on checked input, from given codes, in blocks of samples whose dense codes fit into the memory.

    Accelerated gradient steps serve most samples. Where atoms crowd the sphere they are slow, and an active set takes
    over.
    """
    row_bytes = _DENSE * len(atoms) * atoms.element_size()
    num_rows = max(1, memory // row_bytes)
    exchange_bytes = row_bytes + 8 * _FACTORS * min(atoms.shape) * atoms.shape[1]
    patience = max(_LEAST_PATIENCE, _PATIENCE * x.shape[1])
    step = 1 / torch.linalg.eigvalsh(atoms.T @ atoms)[-1]  # 1 over the square of the largest singular value
    parts = []
    for first in range(0, max(1, len(x)), num_rows):
        block = slice(first, first + num_rows)
        codes = dense_rows(start, block).to(x.dtype)
        gaps, iterations = _descend(x[block], atoms, lam, tol, codes, min(max_iter, patience), step)
        # Below this gap, rounding the codes to their dtype may undo what an exchange gains.
        limit = torch.finfo(x.dtype).eps * x[block].double().norm(dim=1) / (lam / 2)
        missed = ((gaps > limit.clamp(min=tol)) & (iterations < max_iter)).nonzero()[:, 0]
        for some in missed.split(max(1, memory // exchange_bytes)):
            exact, reached, added = _exchange(x[block][some], atoms, lam, tol, codes[some], max_iter - patience)
            iterations[some] += added
            better = reached < gaps[some]
            codes[some[better]], gaps[some[better]] = exact[better], reached[better]
        row, col = codes.nonzero(as_tuple=True)
        parts.append((row, col, codes[row, col], gaps, iterations))
    counts = torch.cat([row.bincount(minlength=len(gap)) for row, _, _, gap, _ in parts])
    _, cols, values, all_gaps, all_iterations = (torch.cat(part) for part in zip(*parts, strict=True))
    return csr_codes(row_pointers(counts), cols, values, len(atoms)), all_gaps, all_iterations


def dense_rows(codes: Tensor, block: slice) -> Tensor:
    """Some rows of a CSR matrix, dense."""
    crow = codes.crow_indices()[block.start : block.stop + 1]
    inside = slice(int(crow[0]), int(crow[-1]))
    col, values = codes.col_indices()[inside], codes.values()[inside]
    return csr_codes(crow - crow[0], col, values, codes.shape[1]).to_dense()


def _descend(
    x: Tensor, atoms: Tensor, lam: float, tol: float, found: Tensor, max_iter: int, step: Tensor
) -> tuple[Tensor, Tensor]:
    """Accelerated projected gradient from the codes `found`, which are updated; finished samples are removed.

    This is FISTA (Beck and Teboulle 2009) with restarts (O'Donoghue and Candes 2015): a sample's momentum is dropped
    when it points uphill.

    Returns:
        Gaps and iterations of the samples.
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

    return gaps, iterations


def _exchange(
    x: Tensor, atoms: Tensor, lam: float, tol: float, start: Tensor, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Exact codes by exchanges in the active sets of all samples together, in float64, from the atoms in use.

    See `sparsecode_pl.coding.kernels` for the method. The active atoms are decomposed anew in each pass (QR). In a pass
    each sample either settles the codes of its active atoms, or moves along as its new atom comes in.

    Returns:
        Codes (n, m), gaps and steps of the samples.
    """
    room = min(atoms.shape)
    half = lam / 2
    found, gaps = torch.zeros_like(start), torch.empty(len(x), dtype=torch.float64, device=x.device)
    steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    values, active = start.double().topk(room)
    used = values > 0
    incoming = torch.full_like(steps, -1)
    excess = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    sample, exact_x = torch.arange(len(x), device=x.device), x.double()
    rounding = 4 * torch.finfo(torch.float64).eps * exact_x.norm(dim=1)
    first = True
    while len(sample):
        order = used.sort(
            descending=True, stable=True, dim=1
        ).indices  # a QR decomposition needs the used ones in front
        used, active, values = (part.gather(1, order) for part in (used, active, values))
        basis, triangle = _decomposed(atoms, active, used)
        if first:  # leave out atoms that depend on those before them
            first = False
            used &= triangle.diagonal(dim1=1, dim2=2).abs() > _DEPENDENT
            continue

        # Codes whose residual has the correlation lam / 2 with each active atom.
        coming = incoming >= 0
        due = torch.linalg.solve_triangular(triangle.mT, half * used.double()[:, :, None], upper=False)
        along = (basis.mT @ exact_x[sample, :, None] - due) * used[:, :, None]
        solved = torch.linalg.solve_triangular(triangle, along, upper=True)[:, :, 0]
        values = torch.where(coming[:, None], values, solved)
        least, place = torch.where(used, values, torch.inf).min(1)
        negative = ~coming & (least <= 0)
        used[negative, place[negative]] = False

        # Where they are feasible: is there an atom to take in?
        settled = ~coming & ~negative
        residual = exact_x[sample] - (basis @ along)[:, :, 0]
        best = (residual.to(x.dtype) @ atoms.T).argmax(1)
        above = (residual * atoms[best].double()).sum(1) - half
        ended = settled & (
            (above <= (tol / 2 * (above + half)).maximum(rounding[sample])) | (steps[sample] >= max_steps)
        )
        starting = settled & ~ended
        incoming, excess = torch.where(starting, best, incoming), torch.where(starting, above, excess)
        steps[sample] += starting

        # Take it in until its correlation is lam / 2, or until the code of an active atom is 0.
        coming = incoming >= 0
        rest = atoms[incoming.clamp(min=0)].double()[:, :, None]
        along = torch.zeros_like(along)
        for _ in range(2):  # once is not enough: rounding leaves a part in the span
            part = (basis.mT @ rest) * used[:, :, None]
            along, rest = along + part, rest - basis @ part
        weights = torch.linalg.solve_triangular(triangle, along, upper=True)[:, :, 0]
        square = rest[:, :, 0].square().sum(1)
        count = used.sum(1)
        free = (square > _DEPENDENT**2) & (count < room)
        enough = torch.where(free, excess / square, torch.inf)
        ratio, place = torch.where(used & (weights > 0), values / weights, torch.inf).min(1)
        step = enough.minimum(ratio)
        stuck = coming & step.isinf()  # only by rounding
        blocked, entering = coming & ~stuck & (ratio < enough), coming & ~stuck & (ratio >= enough)
        values = torch.where(blocked[:, None], values - step[:, None] * weights, values)
        excess = torch.where(blocked, excess - step * square, excess)
        used[blocked, place[blocked]] = False
        active[entering, count[entering]] = incoming[entering]
        used[entering, count[entering]] = True
        incoming = torch.where(entering, -1, incoming)

        done = ended | stuck
        if done.any():
            rows, codes = sample[done], (values[done] * used[done]).clamp(min=0).to(x.dtype)
            found[rows] = found[rows].scatter_add(1, active[done], codes)
            residual = exact_x[rows] - (codes.double()[:, None] @ atoms[active[done]].double())[:, 0]
            gaps[rows] = relative_gap(x[rows], residual, residual.to(x.dtype) @ atoms.T, codes, lam)
            sample, used, active, values, incoming, excess = (
                part[~done] for part in (sample, used, active, values, incoming, excess)
            )
    return found, gaps, steps


def _decomposed(atoms: Tensor, active: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of the active atoms, (n, d, k), and the triangles that make these atoms of them, (n, k, k).

    The diagonal is 1 at places that are not used.
    """
    basis, triangle = torch.linalg.qr((atoms[active].double() * used[:, :, None]).mT)
    return basis, torch.where(
        used[:, None, :], triangle, torch.eye(active.shape[1], dtype=torch.float64, device=atoms.device)
    )


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
