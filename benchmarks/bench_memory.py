"""Peak memory of the greedy step, compared with the bound that `greedy_encode` promises.

Each case runs in a separate process. Its peak is the most memory held during the call, minus the memory held before.
Samples are sums of ten atoms, and take about ten steps each. With the Gram matrix there are enough samples to need
several chunks. Without it, `memory` determines how many samples are encoded at a time, and 64 MiB is not enough for all
at once. Prints peaks, promises and seconds, and writes results/bench_memory.json. Fails if a peak exceeds its promise
by more than 10 % plus 64 MiB, which are for the buffers of threads.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import write

from sparsecode_pl.coding import greedy_encode

MIB = 2**20
LAM, ACTIVE = 0.5, 10
SHARE, SLACK = 0.1, 64 * MIB
CASES = (  # with memory that is just enough for the Gram matrix, it is formed
    {"n": 16_384, "d": 256, "m": 2048, "memory": 4 * 2048**2},
    {"n": 4096, "d": 256, "m": 16_384, "memory": 4 * 16_384**2},
    {"n": 512, "d": 1024, "m": 65_536, "memory": 64 * MIB},
    {"n": 512, "d": 1024, "m": 65_536, "memory": 512 * MIB},
    {"n": 512, "d": 1024, "m": 65_536, "memory": 2048 * MIB},
)


def held(field: str) -> int:
    """Bytes of this process in physical memory: now ("VmRSS"), or their maximum since the last reset ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def encode(n: int, d: int, m: int, memory: int) -> dict[str, Any]:
    """Steps per sample, peak in bytes and seconds of one call; runs in a separate process."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator), dim=1)
    chosen = torch.randint(m, (n, ACTIVE), generator=generator)
    weights = torch.rand(n, ACTIVE, generator=generator) + 0.5
    x = torch.nn.functional.embedding_bag(chosen, atoms, per_sample_weights=weights, mode="sum")
    few = torch.eye(64)
    for rows in (64, 1):  # with and without the Gram matrix: compiles and starts the threads
        greedy_encode(few[:rows], few, LAM)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before, start = held("VmRSS"), time.perf_counter()
    codes = greedy_encode(x, atoms, LAM, memory=memory)
    taken = time.perf_counter() - start
    return {"steps_per_sample": codes.values().numel() / n, "peak": held("VmHWM") - before, "seconds": taken}


def promised(m: int, memory: int, entries: float) -> float:
    """Bytes that a call may take by the docstring of `greedy_encode`, for float32 with the compiled backend."""
    gram = 4 * m**2
    return (gram + 32 * MIB if gram <= memory else memory) + 2 * 16 * entries


def main() -> None:
    """Run the benchmark."""
    results = []
    for case in CASES:
        command = [sys.executable, __file__, json.dumps(case)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603
        formula = promised(case["m"], case["memory"], case["n"] * found["steps_per_sample"])
        result = {**case, **found, "promised": formula, "kept": found["peak"] <= (1 + SHARE) * formula + SLACK}
        results.append(result)
        print(
            f"m = {case['m']:,}, d = {case['d']:,}, {case['n']:,} samples of {found['steps_per_sample']:.1f} steps, "
            f"memory {case['memory'] / MIB:,.0f} MiB: peak {found['peak'] / MIB:,.0f} MiB, promised "
            f"{formula / MIB:,.0f} MiB, {found['seconds']:.1f} s"
        )
    settings = {"lam": LAM, "dtype": "float32", "share": SHARE, "slack": SLACK}
    write("bench_memory", results, settings, packages=("torch", "numba"))
    if not all(result["kept"] for result in results):
        raise SystemExit("bench_memory: a peak is above what greedy_encode promises; see above")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(encode(**json.loads(sys.argv[1]))))
    else:
        main()
