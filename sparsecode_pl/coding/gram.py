"""The Gram matrix of the atoms, where it fits and pays."""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

# Share of the free memory that a call may take unless told otherwise.
_MEMORY_SHARE = 0.25
# Bytes that it may take in any case, unless told otherwise: with less it would crawl.
_LEAST = 64 * 2**20
# Steps a sample that are reckoned with: the Gram matrix costs m products of d values for each atom, the way without it
# m products for each sample and step.
_STEPS = 32


def gram_matrix(atoms: Tensor, num_samples: int | None = None, memory: int | None = None) -> Tensor | None:
    """The dot products of all atoms with each other, or None where they are better not formed.

    Args:
        atoms: unit rows, (m, d).
        num_samples: how many samples it is for; None for many.
        memory: bytes it may take at most; by default a quarter of the free memory of the atoms' device.

    Returns:
        (m, m), or None where that does not fit or where so few samples would not repay it. With and without it codes
        agree to rounding, so that results which must be equal to the last digit want `memory` set.
    """
    m = len(atoms)
    if num_samples is not None and m > _STEPS * num_samples:
        return None
    if m * m * atoms.element_size() > memory_budget(memory, atoms.device):
        return None
    with torch.no_grad(), torch.autocast(atoms.device.type, enabled=False):
        return atoms @ atoms.T


def memory_budget(memory: int | None, device: torch.device) -> int:
    """Bytes that a call may take: as given, or a quarter of what is free on the device.

    Raises:
        ValueError: it is below 1.
    """
    check_memory(memory)
    return max(_LEAST, int(_MEMORY_SHARE * _free_memory(device))) if memory is None else memory


def check_memory(memory: int | None) -> None:
    """Check a bound on memory.

    Raises:
        ValueError: it is below 1.
    """
    if memory is not None and memory < 1:
        raise ValueError(f"memory is {memory}: give a number of bytes, or None for a quarter of the free memory")


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds without using it is free too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts = Path("/proc/meminfo")
    if facts.is_file():
        available = next((line for line in facts.read_text().splitlines() if line.startswith("MemAvailable:")), None)
        if available is not None:
            free = 1024 * int(available.split()[1])
    group = Path("/sys/fs/cgroup")  # a container may have less than the machine
    limit, used, kinds = (group / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        cached = re.search(r"^inactive_file (\d+)$", kinds.read_text() if kinds.is_file() else "", re.MULTILINE)
        taken = int(used.read_text()) - (int(cached[1]) if cached else 0)  # files that are cached can make room
        free = min(free, max(0, int(limit.read_text()) - taken))
    return free
