"""Greedy step on a GPU: the Triton kernel beside the plain PyTorch backend and SAELens' matching pursuit, in one run.

768 dimensions, 12,288 atoms, 4,096 samples that are sparse sums of atoms plus noise, and the penalty at which a sample
takes about 32 atoms. Prints medians over repeats, ratios, and the share of the time that reading the rows of the Gram
matrix would take at the bandwidth of a copy. Writes results/bench_greedy_gpu.json. SAELens is left out if it is not
installed. Without a GPU nothing is measured.
"""

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from record import write
from torch import Tensor

from sparsecode_pl.coding.greedy_torch import greedy_torch
from sparsecode_pl.coding.greedy_triton import HAS_TRITON, greedy_triton

REPEATS = 9


def problem(device: torch.device, d: int, m: int, n: int, active: int) -> tuple[Tensor, Tensor]:
    """Random unit atoms (m, d), and samples (n, d) that are sums of `active` of them plus noise."""
    generator = torch.Generator(device).manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator, device=device), dim=1)
    chosen = torch.randint(m, (n, active), generator=generator, device=device)
    weights = torch.rand(n, active, generator=generator, device=device) + 0.5
    noise = torch.randn(n, d, generator=generator, device=device) / d**0.5
    return torch.einsum("na,nad->nd", weights, atoms[chosen]) + 0.5 * noise, atoms


def penalty_for(steps: int, x: Tensor, atoms: Tensor, gram: Tensor) -> float:
    """The penalty at which a sample takes about `steps` atoms: halved from where it takes none, then bisected."""

    def mean_steps(lam: float) -> float:
        return greedy_triton(x, atoms, lam, len(atoms), gram).values().numel() / len(x)

    high = 2 * float((x @ atoms.T).max())
    low = high / 2
    while mean_steps(low) < steps:
        low, high = low / 2, low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_steps(middle) > steps else (low, middle)
    return (low + high) / 2


def saelens(atoms: Tensor, steps: int) -> Callable[[Tensor], Tensor]:
    """SAELens' matching pursuit with these atoms and a fixed number of steps, without its checks for an early end."""
    from sae_lens import MatchingPursuitSAE, MatchingPursuitSAEConfig

    m, d = atoms.shape
    config = MatchingPursuitSAEConfig(
        d_in=d,
        d_sae=m,
        device=str(atoms.device),
        apply_b_dec_to_input=False,
        residual_threshold=0.0,
        max_iterations=steps,
        stop_on_duplicate_support=False,
    )
    sae = MatchingPursuitSAE(config)
    sae.W_dec.data = atoms
    return sae.encode


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Time of one call, by the GPU's own clock if there is a GPU."""
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def medians(calls: dict[str, Callable[[], Any]], device: torch.device) -> dict[str, float]:
    """Median seconds of each call after a first one, which may compile."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():  # in turn, so that all see the same machine
            taken = seconds(call, device)
            if repeat:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def copy_bandwidth(size: int, device: torch.device) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / medians({"copy": lambda: target.copy_(source)}, device)["copy"]


@torch.no_grad()
def measure(device: torch.device, d: int, m: int, n: int, steps: int, copied: int = 2**32) -> dict[str, Any]:
    """Times and shares of one setting; `copied` bytes are copied to find the bandwidth."""
    x, atoms = problem(device, d, m, n, active=steps)
    gram = atoms @ atoms.T
    half = gram.bfloat16()
    lam = penalty_for(steps, x, atoms, gram)
    total = {
        "triton": greedy_triton(x, atoms, lam, m, gram).values().numel(),
        "triton, bfloat16": greedy_triton(x, atoms, lam, m, half).values().numel(),
    }
    calls: dict[str, Callable[[], Any]] = {
        "correlations alone": lambda: x @ atoms.T,
        "triton": lambda: greedy_triton(x, atoms, lam, m, gram),
        "triton, Gram formed": lambda: greedy_triton(x, atoms, lam, m, atoms @ atoms.T),
        "triton, bfloat16": lambda: greedy_triton(x, atoms, lam, m, half),
        "triton, bfloat16, Gram formed": lambda: greedy_triton(x, atoms, lam, m, (atoms @ atoms.T).bfloat16()),
        "torch": lambda: greedy_torch(x, atoms, lam, m, gram),
    }
    if find_spec("sae_lens") is not None:
        encode = saelens(atoms, round(total["triton"] / n))
        calls["SAELens"] = lambda: encode(x)
    bandwidth = copy_bandwidth(copied, device)
    taken = medians(calls, device)
    shares = {}
    for name, gram_given in (("triton", gram), ("triton, bfloat16", half)):
        floor = total[name] * m * gram_given.element_size() / bandwidth
        selection = taken[name] - taken["correlations alone"]
        shares[name] = {"floor_seconds": floor, "of_call": floor / taken[name], "of_selection": floor / selection}
    return {
        "d": d,
        "m": m,
        "n": n,
        "lam": lam,
        "steps_per_sample": {name: count / n for name, count in total.items()},
        "bandwidth": bandwidth,
        "seconds": taken,
        "ratio_to_triton": {name: each / taken["triton"] for name, each in taken.items()},
        "share_of_floor": shares,
    }


def main() -> None:
    """Run the benchmark."""
    if not (torch.cuda.is_available() and HAS_TRITON):
        print("bench_greedy_gpu: needs a GPU and Triton; nothing measured")
        return
    record = measure(torch.device("cuda"), d=768, m=12_288, n=4096, steps=32)
    for name, taken in record["seconds"].items():
        print(f"{name}: {1000 * taken:.2f} ms, {record['ratio_to_triton'][name]:.2f} of triton")
    print(f"bandwidth {record['bandwidth'] / 1e12:.2f} TB/s")
    for name, share in record["share_of_floor"].items():
        print(
            f"{name}, {record['steps_per_sample'][name]:.1f} steps per sample: reading the Gram matrix takes at least "
            f"{1000 * share['floor_seconds']:.2f} ms, {share['of_call']:.0%} of the call and "
            f"{share['of_selection']:.0%} of what follows the correlations"
        )
    write("bench_greedy_gpu", [record], {"repeats": REPEATS}, packages=("torch", "triton", "sae-lens"), gpu=True)


if __name__ == "__main__":
    main()
