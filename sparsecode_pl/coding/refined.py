"""Greedy codes, refined by coordinate descent: nearly exact codes in about twice the time of the greedy step."""

from torch import Tensor

from sparsecode_pl.coding.checks import check_penalty, check_problem, choose_backend
from sparsecode_pl.coding.greedy import greedy_encode
from sparsecode_pl.coding.lasso import BACKENDS, LassoBackend
from sparsecode_pl.coding.precision import find_codes
from sparsecode_pl.coding.refined_numba import refined_numba
from sparsecode_pl.coding.refined_torch import refined_torch
from sparsecode_pl.coding.rounding import rounding
from sparsecode_pl.utilities.memory import memory_budget


@find_codes
def refined_encode(
    x: Tensor,
    atoms: Tensor,
    lam: float,
    *,
    rounds: int = 4,
    sweeps: int = 3,
    backend: LassoBackend = "auto",
    gram: Tensor | None = None,
    memory: int | None = None,
) -> Tensor:
    """Refine the greedy codes of each sample by coordinate descent on the objective (paper, eq. 1).

    The greedy step never corrects a coefficient: where many atoms are active, those chosen first become too large. Here
    a sample starts from its greedy codes (`greedy_encode`) and has `rounds` rounds. At the start of each but the first,
    atoms whose coefficient has become 0 are dropped, and all atoms whose dot product with the residual r exceeds lam/2
    by more than rounding (see `greedy_encode`) are added. Then come `sweeps` sweeps over the sample's atoms in
    ascending order: a <- max(0, a + 1.5 (r.f - lam/2)), and r changes with a. The factor is that of successive
    over-relaxation. Plain coordinate descent has 1, and any factor between 0 and 2 lowers the objective
    ||r||^2 + lam * sum(codes). It therefore never exceeds that of the greedy codes, and with more rounds it approaches
    the minimum, that of `lasso_encode`. There is no certificate; `sparsecode measure --exact` reports how far the codes
    are from the minimum as `coding_gap`.

    The refinement needs no Gram matrix, and no more memory than the greedy step; with torch, `memory` bounds its dense
    codes and correlations. Autocast and products of lower precision, such as TF32, are switched off during the call. On
    other devices than the CPU the plain torch backend is used, which has not run on a GPU.

    Args:
        x: activations, centred, (n, d) float32 or float64.
        atoms: unit rows, (m, d), dtype and device of x.
        lam: penalty, > 0, in units of x.
        rounds: rounds of refinement, >= 1.
        sweeps: sweeps per round, >= 1.
        backend: "torch" (any device), "numba" (CPU, parallel over samples) or "auto": numba on the CPU, torch
            elsewhere. The greedy step gets the same argument.
        gram: atoms @ atoms.T, (m, m), if it is known, of any floating dtype, for the greedy step; its values are not
            checked.
        memory: bytes that the Gram matrix, or what replaces it, or (torch) dense codes and correlations may take; a
            quarter of the free memory if None.

    Returns:
        Codes, sparse CSR (n, m), all values > 0, dtype of x, int64 indices ascending in each row.

    Raises:
        ValueError: lam <= 0, atoms not of unit norm, values that are not finite, widths that differ, `rounds` or
            `sweeps` below 1, or a backend that is unknown or cannot work on this device.

    Example:
        >>> import torch
        >>> x, atoms = torch.tensor([[3.0, 1.0]]).double(), torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
        >>> refined_encode(x, atoms, lam=1.0, rounds=20).to_dense()  # greedy: 2.5000, 0.6000
        tensor([[1.9375, 0.9375]], dtype=torch.float64)
    """
    lam = check_penalty(lam)
    check_refinement(rounds, sweeps)
    least = rounding(check_problem(x, atoms, lam, None), x.dtype)
    chosen = choose_backend(backend, BACKENDS, x.device)
    start = greedy_encode(x, atoms, lam, backend=backend, gram=gram, memory=memory)
    if chosen == "numba":
        return refined_numba(x, atoms, lam, least, start, rounds, sweeps)
    return refined_torch(x, atoms, lam, least, start, rounds, sweeps, memory_budget(memory, x.device))


def check_refinement(rounds: int, sweeps: int) -> None:
    """Check the numbers of rounds and sweeps.

    Raises:
        ValueError: one of them is below 1.
    """
    for name, value in (("rounds", rounds), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")
