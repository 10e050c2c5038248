"""The exact coefficients of the paper, eq. 1: a non-negative lasso with a certificate."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sparsecode_pl.coding.checks import check_gram, check_penalty, check_problem, choose_backend, warn
from sparsecode_pl.coding.gram import gram_matrix
from sparsecode_pl.coding.greedy import greedy_encode
from sparsecode_pl.coding.lasso_numba import lasso_numba
from sparsecode_pl.coding.lasso_torch import lasso_torch
from sparsecode_pl.coding.precision import find_codes
from sparsecode_pl.utilities.memory import memory_budget

LassoBackend = Literal["auto", "torch", "numba"]
BACKENDS = ("torch", "numba")


class LassoCodes(NamedTuple):
    """What `lasso_encode` returns.

    Attributes:
        codes: sparse CSR (n, m), all values > 0, dtype of x, int64 indices ascending in each row.
        gap: duality gap of each sample over its objective, (n,) float64, >= 0 up to rounding; 0 where x is 0. The
            minimum of the objective is lower by at most this share.
        iterations: iterations of each sample, (n,) int64: coordinate descent sweeps (numba) or gradient steps (torch),
            and steps of the active set.
    """

    codes: Tensor
    gap: Tensor
    iterations: Tensor


@find_codes
def lasso_encode(
    x: Tensor,
    atoms: Tensor,
    lam: float,
    *,
    tol: float = 1e-4,
    warm_start: Tensor | None = None,
    max_iter: int = 10_000,
    backend: LassoBackend = "auto",
    gram: Tensor | None = None,
    memory: int | None = None,
) -> LassoCodes:
    """Find the non-negative lasso codes of each sample, exact to a duality gap (paper, section 2).

    Each sample's objective P = ||r||^2 + lam * sum(codes), with r = x - codes @ atoms, is minimised over codes >= 0.
    The point theta = r * min(1, (lam/2) / max_i f_i.r) is feasible for the dual problem, whose objective there,
    D = ||x||^2 - ||x - theta||^2, is a lower bound of the objective of any codes. The gap P - D therefore bounds the
    excess of the objective over its minimum. A sample is done once its gap is at most `tol` times P. Several codes may
    reach the same minimum, for instance where atoms are equal.

    Coordinate descent (numba) or accelerated gradient steps (torch) find the codes of most samples. Where many atoms
    are nearly equal, both need thousands of iterations. An active-set method then takes over (Goldfarb and Idnani 1983,
    on the dual problem). It works in float64, and at most d of the codes that it finds are not zero.

    The codes have the dtype of x. In float32, their rounding alone may leave a gap of 1e-6 ||x|| / lam; smaller
    tolerances need float64. `gap` is always that of the codes returned. A sample that does not reach `tol` gets the
    best codes found, and a warning says how many there are. Autocast and products of lower precision, such as TF32, are
    switched off during the call.

    Args:
        x: activations, centred, (n, d) float32 or float64.
        atoms: unit rows, (m, d), dtype and device of x.
        lam: penalty, > 0, in units of x.
        tol: relative duality gap to reach, > 0.
        warm_start: codes to start from, >= 0, sparse CSR (n, m) on the device of x; if None, torch starts
            from those of the greedy step, and numba from none.
        max_iter: maximum iterations per sample, >= 1.
        backend: "torch" (any device), "numba" (CPU, parallel over samples) or "auto": numba on CPU, torch elsewhere.
            numba needs the Gram matrix of the atoms; if that does not fit into `memory`, torch is used.
        gram: atoms @ atoms.T, (m, m), if it is known, float32 or float64; its values are not checked.
        memory: bytes that the Gram matrix (numba) or dense codes and correlations (torch) may take, but at least those
            of one sample; a quarter of the free memory if None.

    Returns:
        Codes, relative gaps and iterations. Warns if samples stopped above `tol`.

    Raises:
        ValueError: lam <= 0, atoms not of unit norm, values that are not finite, widths that differ, an unknown
            backend, a tolerance or a limit on iterations out of range, or a warm start that does not fit x and atoms.

    Example:
        >>> x, atoms = torch.tensor([[3.0, 1.0]]).double(), torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
        >>> codes, gap, _ = lasso_encode(x, atoms, lam=1.0, tol=1e-10)
        >>> codes.to_dense(), bool(gap <= 1e-10)
        (tensor([[1.9375, 0.9375]], dtype=torch.float64), True)
    """
    lam = check_penalty(lam)
    check_problem(x, atoms, lam, None)
    check_precision(tol, max_iter)
    chosen = choose_backend(backend, BACKENDS, x.device)
    if warm_start is not None:
        _check_warm_start(warm_start, x, len(atoms))
    if gram is not None:
        check_gram(gram, atoms)
        if gram.dtype.itemsize < 4:
            raise ValueError(f"gram is {gram.dtype}, too coarse for a certificate: give float32 or float64")
    if chosen == "numba" and gram is None:
        gram = gram_matrix(atoms, memory=memory)
    if chosen == "numba" and gram is not None:
        found = LassoCodes(*lasso_numba(x, atoms, lam, tol, warm_start, max_iter, gram))
    else:
        if warm_start is None:
            warm_start = greedy_encode(x, atoms, lam, backend=backend, gram=gram, memory=memory)
        budget = memory_budget(memory, x.device)
        found = LassoCodes(*lasso_torch(x, atoms, lam, tol, warm_start, max_iter, budget))
    missed = int((found.gap > tol).sum())
    if missed:
        warn(
            f"{missed} of {len(x)} samples stopped at a relative duality gap above tol, {tol:g} (largest: "
            f"{float(found.gap.max()):.1e}): raise max_iter from {max_iter}, raise tol, or give float64"
        )
    return found


def check_precision(tol: float, max_iter: int) -> None:
    """Check the stopping criteria.

    Raises:
        ValueError: `tol` is not above 0 or `max_iter` is below 1.
    """
    if not tol > 0:
        raise ValueError(f"tol is {tol}: give a relative duality gap above 0, such as 1e-4")
    if max_iter < 1:
        raise ValueError(f"max_iter is {max_iter}: give at least 1")


def _check_warm_start(codes: Tensor, x: Tensor, num_atoms: int) -> None:
    shape = (len(x), num_atoms)
    if codes.layout != torch.sparse_csr or codes.shape != shape or codes.device != x.device:
        raise ValueError(
            f"warm_start is {codes.layout} of shape {tuple(codes.shape)} on {codes.device}: "
            f"give sparse CSR codes {shape} on {x.device}"
        )
    values = codes.values()
    if not (torch.isfinite(values) & (values >= 0)).all():
        raise ValueError("warm_start has values that are negative, NaN or infinite: give codes >= 0")
    try:  # compiled code would read and write wherever the indices point to
        torch.sparse_csr_tensor(codes.crow_indices(), codes.col_indices(), values, codes.shape, check_invariants=True)
    except RuntimeError as error:
        raise ValueError(f"warm_start is not a valid CSR matrix: give the codes of an encoder ({error})") from error
