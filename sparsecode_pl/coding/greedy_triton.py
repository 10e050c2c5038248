"""The greedy step as a Triton kernel, for NVIDIA GPUs.

Triton is optional: CUDA builds of PyTorch include it, CPU builds do not. Without it this module still imports, but has
no kernel, and `HAS_TRITON` is False. Import this module only where it may be used: TRITON_INTERPRET=1, which makes the
kernel run on a CPU for tests, is read at import.

Each sample is a program of its own, whose correlations stay in registers from the first step to the last. A step reads
only one row of the Gram matrix. A finished sample costs nothing more, and the host waits only until all have finished.
Reading these rows limits the speed: 4m bytes per step, or 2m from a bfloat16 Gram matrix.
"""

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from sparsecode_pl.coding.checks import warn
from sparsecode_pl.coding.codes import csr_codes, row_pointers

HAS_TRITON = find_spec("triton") is not None
# Maximum registers per thread: a multiprocessor then runs 16 warps. Without a limit the compiler aims at more warps,
# with fewer loads in flight in each.
_REGISTERS = 128
_MOST_WARPS = 16
# Bytes of correlations per thread, 64 float32 values: half its registers, so that the other half can receive most of a
# row of the Gram matrix. m = 12,288 gives 8 warps and 48 correlations per thread: two programs share a multiprocessor,
# and one computes while the other waits.
_THREAD_BYTES = 256
# The largest m for which float32 correlations fit into the registers: 32,768. In float64 they spill beyond half of
# that, which is slower but correct.
MAX_ATOMS = _MOST_WARPS * 32 * _THREAD_BYTES // 4
# Bytes of correlations held at a time. Without a limit on their number, the chosen atoms take as much again.
_CHUNK_BYTES = 256 * 2**20

if HAS_TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def _better(value: tl.tensor, atom: tl.tensor, other: tl.tensor, other_atom: tl.tensor) -> tl.tuple:
        """The larger of two correlations with its atom; of equal ones, that of the lower atom."""
        keep = (value > other) | ((value == other) & (atom < other_atom))
        return tl.where(keep, value, other), tl.where(keep, atom, other_atom)

    @triton.jit
    def _largest(parts: tl.tuple, lane: tl.tensor, width: tl.constexpr) -> tl.tuple:
        """The largest correlation and its atom, the lowest of equal ones.

        Each thread first compares its parts in ascending order, so that > alone keeps the lowest atom: three
        instructions per correlation. Only the remaining `width` maxima are compared as pairs and between threads, once.
        """
        top = parts[0]
        place = tl.full((width,), 0, tl.int32)  # number of the part: atoms would cost a register for each correlation
        for p in tl.static_range(1, len(parts)):
            larger = parts[p] > top
            top = tl.where(larger, parts[p], top)
            place = tl.where(larger, p, place)
        return tl.reduce((top, place * width + lane), 0, _better)

    @triton.jit
    def _load(row: tl.tensor, lane: tl.tensor, padding: tl.constexpr, m: tl.constexpr, width: tl.constexpr) -> tl.tuple:
        """Load m values in ceil(m / width) parts, so that only the last part is padded, not m to a power of two."""
        parts = ()
        for p in tl.static_range((m + width - 1) // width):
            atom = p * width + lane
            part = tl.load(row + atom, mask=atom < m, other=padding)
            parts = parts + (part,)  # type: ignore[assignment]  # noqa: RUF005
        return parts

    @triton.jit(do_not_specialize=["max_atoms"])
    def _greedy(
        dots: tl.tensor,
        gram: tl.tensor,
        half: tl.tensor,
        least: tl.tensor,
        chosen: tl.tensor,
        counts: tl.tensor,
        max_atoms: tl.tensor,
        m: tl.constexpr,
        width: tl.constexpr,
    ) -> None:
        """Write the codes of each sample to the front of its row of `dots` (n, m), its correlations with the atoms.

        Codes are in order of selection, and each is above the sample's entry of `least` (n,). Their atoms go to
        `chosen` (n, max_atoms), their number to `counts` (n,).
        """
        sample = tl.program_id(0).to(tl.int64)
        dots += sample * m
        chosen += sample * max_atoms
        lane = tl.arange(0, width)
        threshold = tl.load(half)
        enough = tl.load(least + sample)
        parts = _load(dots, lane, -float("inf"), m, width)
        top, atom = _largest(parts, lane, width)
        a = top - threshold
        count = 0
        while (a > enough) & (count < max_atoms):
            tl.store(chosen + count, atom)
            tl.store(dots + count, a)  # the whole row has been read by now: its maximum is known
            count += 1
            row = _load(gram + atom.to(tl.int64) * m, lane, 0, m, width)  # all loads start before the first use
            left = ()
            for p in tl.static_range(len(parts)):
                part = parts[p] - a * row[p].to(a.dtype)
                part = tl.where(lane == atom - p * width, -float("inf"), part)  # no atom is chosen twice
                left = left + (part,)  # type: ignore[assignment]  # noqa: RUF005
            parts = left
            top, atom = _largest(parts, lane, width)
            a = top - threshold
        tl.store(counts + sample, count)


@cache
def runs_on(device: torch.device) -> bool:
    """Whether the kernel runs on the device, tried on one sample. If not, a warning tells the cause."""
    one = torch.ones(1, 1, device=device)
    try:
        greedy_triton(one, one, 1.0, torch.zeros(1, device=device), 1, one)
    except Exception as error:  # whatever Triton, its compiler or the driver raises
        warn(
            f"the Triton kernel does not run on {device}, so the slower torch backend is used; the cause, often a "
            f"missing C compiler or an old GPU, was {type(error).__name__}: {error}"
        )
        return False
    return True


def can_run_on(device: torch.device) -> bool:
    """Whether the kernel supports the device: with Triton, an NVIDIA GPU or Triton's interpreter."""
    return HAS_TRITON and (
        os.environ.get("TRITON_INTERPRET") == "1" or (device.type == "cuda" and not torch.version.hip)
    )


def greedy_triton(x: Tensor, atoms: Tensor, lam: float, least: Tensor, max_atoms: int, gram: Tensor) -> Tensor:
    """`greedy_encode` on checked input on a GPU, in chunks of samples.

    Args:
        x: activations, (n, d) float32 or float64.
        atoms: unit rows, (m, d), m at most `MAX_ATOMS`.
        lam: penalty, > 0.
        least: what a coefficient of each sample must exceed, (n,), dtype of x.
        max_atoms: maximum atoms per sample, from 1 to m.
        gram: `atoms @ atoms.T`, (m, m), dtype of x, or bfloat16 for half the traffic. The correlations are kept in the
            dtype of x in either case.

    Returns:
        Codes, sparse CSR (n, m).
    """
    n, m = len(x), len(atoms)
    gram = gram.contiguous()
    warps = min(_MOST_WARPS, triton.next_power_of_2(triton.cdiv(m * x.element_size(), 32 * _THREAD_BYTES)))
    width = min(128 * warps, triton.next_power_of_2(m))  # a thread loads four neighbours at once
    half = x.new_full((1,), lam / 2)  # in memory, because a float argument of a kernel is a float32
    counts = torch.zeros(n, dtype=torch.int64, device=x.device)
    cols, values = [counts.new_empty(0)], [x.new_empty(0)]
    num_rows = max(1, _CHUNK_BYTES // (m * x.element_size()))
    for start in range(0, n, num_rows):
        dots = x[start : start + num_rows] @ atoms.T
        count = counts[start : start + num_rows]
        chosen = torch.empty(len(dots), max_atoms, dtype=torch.int32, device=x.device)
        with torch.cuda.device_of(x):
            _greedy[(len(dots),)](
                *(dots, gram, half, least[start : start + num_rows], chosen, count, max_atoms, m, width),
                num_warps=warps,
                maxnreg=_REGISTERS,
            )
        row = torch.arange(len(dots), device=x.device).repeat_interleave(count)  # the host waits here, once a chunk
        step = torch.arange(len(row), device=x.device) - (count.cumsum(0) - count)[row]
        place, order = (row * m + chosen[row, step]).sort()
        cols.append(place - row * m)
        values.append(dots[row, step][order])
    return csr_codes(row_pointers(counts), torch.cat(cols), torch.cat(values), m)
