"""How much memory there is, and how much of it a call may take."""

import math
import os
import re
from pathlib import Path

import torch

# Share of the free memory that a call may take by default.
_SHARE = 0.25
# Bytes that a call may always take by default: with less it would be very slow.
_LEAST = 64 * 2**20
# Where Linux reports the memory of the machine and the limits of a container.
_MACHINE, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def check_memory(memory: int | None) -> None:
    """Check a bound on memory.

    Args:
        memory: bytes; None for a quarter of the free memory.

    Raises:
        ValueError: it is below 1.
    """
    if memory is not None and memory < 1:
        raise ValueError(f"memory is {memory}: give a number of bytes, or None for a quarter of the free memory")


def memory_budget(memory: int | None, device: torch.device) -> int:
    """How many bytes a call may take.

    Args:
        memory: bytes, >= 1; None for the default.
        device: the device whose memory is used.

    Returns:
        `memory` if it is given, else a quarter of the free memory of the device, but at least 64 MiB.

    Raises:
        ValueError: `memory` is below 1.

    Example:
        >>> memory_budget(1000, torch.device("cpu"))
        1000
    """
    check_memory(memory)
    return max(_LEAST, int(_SHARE * free_memory(device))) if memory is None else memory


def free_memory(device: torch.device) -> int:
    """How many bytes of a device are free now.

    On the CPU this includes memory that the system can free by itself, such as cached files, and respects the limit of
    a container. On a GPU it includes memory that PyTorch holds but does not use.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = _physical_memory()
    if _MACHINE.is_file():
        lines = _MACHINE.read_text().splitlines()
        available = next((line for line in lines if line.startswith("MemAvailable:")), None)
        if available is not None:
            free = 1024 * int(available.split()[1])
    limit, used, kinds = _container_limit(), _CONTAINER / "memory.current", _CONTAINER / "memory.stat"
    if limit is not None and used.is_file():
        cached = re.search(r"^inactive_file (\d+)$", kinds.read_text() if kinds.is_file() else "", re.MULTILINE)
        taken = int(used.read_text()) - (int(cached[1]) if cached else 0)  # cached files can make room
        free = min(free, max(0, limit - taken))
    return free


def check_room(what: str, *sizes: int) -> None:
    """Refuse a float32 array that this machine cannot hold, before it is asked for.

    Args:
        what: names of the sizes, for the message.
        sizes: its shape.

    Raises:
        ValueError: it would take more than all memory of the machine.

    Example:
        >>> check_room("num_samples x d_model", 10, 4)
    """
    needed, there = 4 * math.prod(sizes), total_memory(torch.device("cpu"))
    if needed > there:
        raise ValueError(
            f"{what} is {' x '.join(map(str, sizes))}, which takes {needed / 2**30:.3g} GiB, and this machine has "
            f"{there / 2**30:.3g}: give less"
        )


def total_memory(device: torch.device) -> int:
    """How many bytes a device has in total; on the CPU, at most the limit of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    limit = _container_limit()
    return _physical_memory() if limit is None else min(_physical_memory(), limit)


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_limit() -> int | None:
    """The limit of the container in bytes; None if there is none."""
    limit = _CONTAINER / "memory.max"
    text = limit.read_text().strip() if limit.is_file() else "max"
    return None if text == "max" else int(text)
