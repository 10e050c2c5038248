"""The greedy coefficient step of the paper, appendix C."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sparsecode_pl.coding.checks import check_gram, check_penalty, check_problem, choose_backend
from sparsecode_pl.coding.gram import gram_matrix
from sparsecode_pl.coding.greedy_numba import greedy_numba
from sparsecode_pl.coding.greedy_residual import greedy_residual
from sparsecode_pl.coding.greedy_torch import greedy_torch
from sparsecode_pl.coding.precision import find_codes
from sparsecode_pl.coding.rounding import rounding
from sparsecode_pl.utilities.memory import memory_budget

Backend = Literal["auto", "torch", "numba", "triton"]
BACKENDS = ("torch", "numba", "triton")
Solver = Callable[[Tensor, Tensor, float, Tensor, int, Tensor], Tensor]


@find_codes
def greedy_encode(
    x: Tensor,
    atoms: Tensor,
    lam: float,
    *,
    max_atoms: int | None = None,
    backend: Backend = "auto",
    gram: Tensor | None = None,
    memory: int | None = None,
) -> Tensor:
    """Approximate the non-negative lasso codes of each sample by greedy selection (paper, appendix C).

    With residual r = x, take the atom, among those not yet chosen for the sample, with the largest dot product r.f
    (ties: the lowest index); a = r.f - lam/2; stop if a <= 0; else a is the atom's coefficient, r <- r - a f, and so
    on. Because of rounding, every backend stops at an a of at most 32 eps ||x|| rather than 0, where eps is the machine
    epsilon of the dtype. Otherwise the second of two equal atoms could get a coefficient that is nothing but a rounding
    error. Each step lowers the sample's objective ||r||^2 + lam * sum(codes) by a^2. With lam near 0 and `max_atoms` k
    this is k steps of matching pursuit without re-selection.

    The dot products r.f of a sample are updated with rows of the atoms' Gram matrix. If that does not fit into
    `memory`, or if there are too few samples for it to pay (m > 32 n), they are computed from the residual at each
    step, whatever the backend. Autocast and products of lower precision, such as TF32, are switched off during the
    call.

    Apart from x, atoms and the codes (16 bytes per entry, twice that while they are assembled), a call takes at most,
    in bytes for float32: with the Gram matrix, 4 m^2 plus 32 MiB (numba), 512 MiB (triton) or 12 n m (torch); without
    it, `memory`, but at least the 4 (m + 2 d) of one sample. While torch and triton sort, each entry being sorted takes
    up to 100 bytes.

    Args:
        x: activations, centred, (n, d) float32 or float64.
        atoms: unit rows, (m, d), dtype and device of x.
        lam: penalty, > 0, in units of x.
        max_atoms: maximum atoms per sample, >= 1; None for no limit.
        backend: "torch" (any device), "numba" (CPU, parallel over samples), "triton" (NVIDIA GPUs, up to 32,768 atoms)
            or "auto": numba on the CPU, triton where it runs, torch elsewhere.
        gram: atoms @ atoms.T, (m, m), if it is known, of any floating dtype; its values are not checked.
        memory: bytes that the Gram matrix, or the dot products without it, may take; a quarter of the free memory if
            None.

    Returns:
        Codes, sparse CSR (n, m), all values > 0, dtype of x, int64 indices ascending in each row.

    Raises:
        ValueError: lam <= 0, atoms not of unit norm, values that are not finite, widths that differ, or a backend that
            is unknown or cannot work on this device or with this many atoms.

    Example:
        >>> greedy_encode(torch.tensor([[3.0, 1.0]]), torch.eye(2), lam=1.0).to_dense()
        tensor([[2.5000, 0.5000]])
    """
    lam = check_penalty(lam)
    least = rounding(check_problem(x, atoms, lam, max_atoms), x.dtype)
    solve = _solver(backend, x.device, len(atoms))
    most = len(atoms) if max_atoms is None else min(max_atoms, len(atoms))
    if gram is None:
        gram = gram_matrix(atoms, len(x), memory)
    else:
        check_gram(gram, atoms)
    if gram is None:
        return greedy_residual(x, atoms, lam, least, most, memory_budget(memory, x.device))
    return solve(x, atoms, lam, least, most, gram)


def _solver(backend: str, device: torch.device, num_atoms: int) -> Solver:
    if backend == "triton" or (backend == "auto" and device.type == "cuda"):
        from sparsecode_pl.coding import greedy_triton as gpu  # imported here because it imports Triton

        fits = num_atoms <= gpu.MAX_ATOMS and gpu.can_run_on(device)
        if fits and (backend == "triton" or gpu.runs_on(device)):
            return gpu.greedy_triton
        if backend == "triton":
            raise ValueError(
                f"backend is 'triton', which needs the package triton, an NVIDIA GPU and at most {gpu.MAX_ATOMS} "
                f"atoms, but x is on {device} and there are {num_atoms} atoms: use 'auto'"
            )
    return {"torch": greedy_torch, "numba": greedy_numba}[choose_backend(backend, BACKENDS, device)]
