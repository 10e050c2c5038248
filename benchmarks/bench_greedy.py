"""Greedy step: the compiled backend beside the plain PyTorch one, in one run.

The setting of the paper's synthetic data (d = 256, m = 2,048) with 4,096 samples; correlations and Gram matrix
included. Prints medians over repeats, the ratio, and coefficient steps a second; writes results/bench_greedy.json.
"""

import json
import platform
import statistics
import time
from pathlib import Path

import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.coding import greedy_encode

REPEATS = 9


def seconds(x: torch.Tensor, atoms: torch.Tensor, lam: float, backend: str) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    greedy_encode(x, atoms, lam, backend=backend)
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark."""
    results = []
    for active in (5.0, 20.0):
        data = SparseLinear(active=active, num_samples=4096, val_split=0)
        x = data.rows
        features = data.ground_truth.features
        others = torch.nn.functional.normalize(
            torch.randn(1024, 256, generator=torch.Generator().manual_seed(0)), dim=1
        )
        atoms = torch.cat([features, others])
        backends = ("torch", "numba")
        steps = {backend: greedy_encode(x, atoms, 0.1, backend=backend).values().numel() for backend in backends}
        times = {backend: [] for backend in backends}
        for _ in range(REPEATS):
            for backend in backends:  # in turn, so that both meet the same machine
                times[backend].append(seconds(x, atoms, 0.1, backend))
        medians = {backend: statistics.median(times[backend]) for backend in backends}
        record = {
            "active": active,
            "steps_per_sample": steps["numba"] / len(x),
            "seconds": medians,
            "ratio": medians["torch"] / medians["numba"],
            "million_steps_per_second": steps["numba"] / medians["numba"] / 1e6,
        }
        results.append(record)
        print(
            f"a = {active:g}, {record['steps_per_sample']:.0f} steps a sample: torch {medians['torch']:.3f} s, "
            f"numba {medians['numba']:.3f} s, ratio {record['ratio']:.1f}, "
            f"{record['million_steps_per_second']:.1f} million steps a second"
        )
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    path = Path(__file__).parent / "results" / "bench_greedy.json"
    path.write_text(json.dumps({"machine": machine, "versions": versions, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
