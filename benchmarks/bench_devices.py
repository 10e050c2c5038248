"""What processes exchange in a training step, and how long it takes: gloo, with 1, 2 and 4 processes on this machine.

Each process codes its share of a batch of 1,024 samples that are sparse sums of atoms plus noise. `dictionary_gradient`
then gives all of them the same gradient of the atoms and the same moments of the codes, and each takes the same step.
The parts are those of `SparseCodingModule` under DDP. A barrier stands before each exchange, so that waiting for others
is not counted as communication. Each process uses one thread; more processes than cores share them. Prints and writes
medians and minima over steps of the slowest process: results/bench_devices.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from record import write

from sparsecode_pl.coding import GreedyCoder, reconstruct
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.gradient import dictionary_gradient
from sparsecode_pl.optimizer import MeanFieldNewton

PROCESSES = (1, 2, 4)
SIZES = ((2048, 256), (4096, 512))  # atoms and dimensions of whole steps
EXCHANGED = tuple(2**20 * size for size in (0.25, 2, 8, 32, 128))  # bytes of exchanges alone
BATCH, ACTIVE, LAM = 1024, 10, 0.5
STEPS = 5


def problem(d: int, m: int) -> tuple[Dictionary, torch.Tensor]:
    """A dictionary, and samples (BATCH, d) that are sums of its atoms plus noise."""
    generator = torch.Generator().manual_seed(0)
    dictionary = Dictionary.random(m, d, generator, coder=GreedyCoder())
    chosen = torch.randint(m, (BATCH, ACTIVE), generator=generator)
    weights = torch.rand(BATCH, ACTIVE, generator=generator) + 0.5
    noise = torch.randn(BATCH, d, generator=generator) / d**0.5
    atoms = dictionary.atoms.detach()
    return dictionary, torch.einsum("na,nad->nd", weights, atoms[chosen]) + 0.1 * noise


_all_reduce = dist.all_reduce


class Exchanges:
    """Called in place of PyTorch's all-reduce; counts bytes and seconds."""

    def __init__(self) -> None:
        self.bytes, self.seconds, self.waited = 0, 0.0, 0.0

    def __call__(self, tensor: torch.Tensor, op: dist.ReduceOp) -> None:
        """Wait for the other processes, and add up what all of them give."""
        start = time.perf_counter()
        dist.barrier()
        met = time.perf_counter()
        _all_reduce(tensor, op)
        self.bytes += tensor.nbytes
        self.seconds += time.perf_counter() - met
        self.waited += met - start


def steps(m: int, d: int) -> dict[str, list[float]]:
    """Seconds of each part of each step in this process, and bytes that it exchanged."""
    rank, number = dist.get_rank(), dist.get_world_size()
    dictionary, x = problem(d, m)
    share = x[rank::number]
    atoms = dictionary.atoms
    optimizer = MeanFieldNewton([atoms])
    taken: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        dist.barrier()
        dist.all_reduce = exchanges = Exchanges()
        start = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - start - exchanges.seconds - exchanges.waited
        taken.setdefault(name, []).append(seconds)
        if name == "gradient":
            taken.setdefault("exchange", []).append(exchanges.seconds)
            taken.setdefault("bytes", []).append(exchanges.bytes)
        return found

    def gradient(codes: torch.Tensor) -> torch.Tensor:
        found, moments = dictionary_gradient(codes, share - reconstruct(codes, atoms), number)
        atoms.grad = found
        return moments

    def step() -> None:
        optimizer.step()
        dictionary.normalise()

    for _ in range(STEPS + 1):  # the first compiles
        with torch.no_grad():
            codes = timed("codes", lambda: dictionary.coder.bind(atoms, reuse=False)(share, LAM))
            optimizer.observe(timed("gradient", lambda codes=codes: gradient(codes)))
            timed("step", step)
    dist.all_reduce = _all_reduce
    return {name: each[1:] for name, each in taken.items()}


def exchanges() -> dict[str, list[float]]:
    """Seconds of exchanges alone, by their bytes."""
    taken = {}
    for size in EXCHANGED:
        values, times = torch.zeros(int(size / 4)), []
        for _ in range(STEPS + 1):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - start)
        taken[str(int(size))] = times[1:]
    return taken


def run(rank: int, number: int, folder: str) -> None:
    """One process: writes the seconds of all sizes to the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=number)
    found = [*(steps(m, d) for m, d in SIZES), exchanges()]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def together(number: int) -> list[list[dict[str, list[float]]]]:
    """What each process measured, for each size."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, str(rank), str(number), folder], env=environment)  # noqa: S603
            for rank in range(number)
        ]
        failed = [process.wait() != 0 for process in started]
        if any(failed):
            raise SystemExit(f"bench_devices: one of {number} processes failed; see above")
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(number)]


def slowest(by_rank: list[list[dict[str, list[float]]]], place: int) -> dict[str, list[float]]:
    """The seconds of the slowest process in each step."""
    return {
        name: [max(rank[place][name][step] for rank in by_rank) for step in range(STEPS)] for name in by_rank[0][place]
    }


def main() -> None:
    """Run the benchmark."""
    results, alone = [], []
    for number in PROCESSES:
        by_rank = together(number)
        for size, times in slowest(by_rank, -1).items():
            alone.append(
                {"processes": number, "bytes": int(size), "seconds": statistics.median(times), "least": min(times)}
            )
            median, least = 1000 * alone[-1]["seconds"], 1000 * alone[-1]["least"]
            print(f"{number} processes, {int(size) / 2**20:g} MiB alone: {median:.1f} ms, at least {least:.1f} ms")
        for place, (m, d) in enumerate(SIZES):
            parts = slowest(by_rank, place)
            exchanged = int(max(parts.pop("bytes")))
            medians = {name: statistics.median(each) for name, each in parts.items()}
            result = {
                "processes": number,
                "m": m,
                "d": d,
                "bytes": exchanged,
                "seconds": medians,
                "least_seconds": {name: min(each) for name, each in parts.items()},
                "share_of_exchange": medians["exchange"] / sum(medians.values()),
            }
            results.append(result)
            print(
                f"{number} processes, m = {m:,}, d = {d:,}: codes {1000 * medians['codes']:.0f} ms, gradient "
                f"{1000 * medians['gradient']:.0f} ms, step {1000 * medians['step']:.0f} ms, exchange of "
                f"{exchanged / 2**20:.1f} MiB {1000 * medians['exchange']:.1f} ms (at least "
                f"{1000 * result['least_seconds']['exchange']:.1f}), {result['share_of_exchange']:.0%} of the step"
            )
    settings = {"batch": BATCH, "active": ACTIVE, "lam": LAM, "steps": STEPS, "cores": os.cpu_count()}
    write("bench_devices", {"steps": results, "exchanges": alone}, settings, packages=("torch", "numba"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        main()
