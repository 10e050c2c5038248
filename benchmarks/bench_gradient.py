"""What the gradient of the dictionary step costs, which is the same in any order of the rows.

Beside it stand autograd's gradient in float32 with the moments of the codes, which depends on the order, and the coding
of the same batch of 1,024 samples. Both gradients include the residual. Calls in turn, one thread, processor time:
results/bench_gradient.json.
"""

from typing import Any

import torch
from problem import problem
from record import medians, write

from sparsecode_pl.coding import GreedyCoder, reconstruct
from sparsecode_pl.gradient import dictionary_gradient
from sparsecode_pl.metrics.functional import nonzero_entries
from sparsecode_pl.optimizer import moments_of

SETTINGS = ((2048, 256, 7), (3072, 384, 45))  # atoms, dimensions, active features
BATCH, LAM, REPEATS = 1024, 0.1, 21


def compare(m: int, d: int, active: float) -> dict[str, Any]:
    """Seconds of the three, and the nonzero entries per sample."""
    x, directions = problem(active, BATCH, d, m)
    atoms = torch.nn.Parameter(directions)

    def coding() -> torch.Tensor:
        return GreedyCoder().bind(atoms.detach(), reuse=False)(x, LAM)

    codes = coding()

    def autograd() -> None:
        atoms.grad = None
        moments_of(codes)
        ((x - reconstruct(codes, atoms)).square().sum() / len(x)).backward()

    def exact() -> None:
        dictionary_gradient(codes, x - reconstruct(codes, atoms.detach()))

    calls = {"coding": coding, "autograd": autograd, "exact": exact}
    for call in calls.values():  # the first call compiles
        call()
    seconds = {name: each.cpu for name, each in medians(calls, REPEATS).items()}
    return {"m": m, "d": d, "active": active, "N0": float(nonzero_entries(codes)), "seconds": seconds}


def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(1)
    results = [compare(*each) for each in SETTINGS]
    for each in results:
        times = ", ".join(f"{name} {1000 * taken:.1f} ms" for name, taken in each["seconds"].items())
        print(f"m = {each['m']:,}, d = {each['d']}, N0 = {each['N0']:.0f}: {times}")
    settings = {"batch": BATCH, "lam": LAM, "repeats": REPEATS, "threads": 1}
    write("bench_gradient", results, settings, packages=("torch", "numba"))


if __name__ == "__main__":
    main()
