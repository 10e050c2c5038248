"""Helpers that all benchmarks share: times of calls taken in turn, and the file with the results."""

import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

RESULTS = Path(__file__).parent / "results"


class Seconds(NamedTuple):
    """Wall time, and processor time of all threads, which depends less on how busy the machine is."""

    wall: float
    cpu: float


def seconds(call: Callable[[], Any]) -> Seconds:
    """Time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def medians(
    calls: Mapping[str, Callable[[], Any]],
    repeats: int | Mapping[str, int],
    prepare: Callable[[], Any] = lambda: None,
) -> dict[str, Seconds]:
    """Median times of calls that have been called once before, since the first call may compile.

    Args:
        calls: what to time, by name.
        repeats: number of repeats, >= 1: one for all, or one for each name.
        prepare: called before each call, and not timed.
    """
    counts = {name: repeats if isinstance(repeats, int) else repeats[name] for name in calls}
    times: dict[str, list[Seconds]] = {name: [] for name in calls}
    for repeat in range(max(counts.values())):
        for name, call in calls.items():  # in turn, so that all see the same machine
            if repeat < counts[name]:
                prepare()
                times[name].append(seconds(call))
    return {name: Seconds(*map(statistics.median, zip(*each, strict=True))) for name, each in times.items()}


@cache
def peer(name: str) -> Any:
    """A module of another library to compare with; None, with a printed line, if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # PyTorch's extensions raise the latter if they do not fit its version
        print(f"{name} is left out because it cannot be imported: {str(error).splitlines()[0]}")
        return None


def write(
    name: str, results: Any, settings: Any = None, packages: Iterable[str] = ("torch",), gpu: bool = False
) -> None:
    """Write results/NAME.json: machine, versions, settings and results.

    Args:
        name: name of the benchmark.
        results: the results, as JSON values.
        settings: the settings, as JSON values.
        packages: distributions whose versions matter; those that are not installed are left out.
        gpu: whether the GPU was used.
    """
    machine = {"processor": processor(), "threads": torch.get_num_threads()}
    if gpu:
        machine["gpu"] = torch.cuda.get_device_name()
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    content = {"machine": machine, "versions": versions, "settings": settings, "results": results}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def processor(field: str = "model name") -> str:
    """A field of the first processor in /proc/cpuinfo, or what Python knows about the processor."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(field))
    return next(found, platform.processor() or platform.machine())
