"""Greedy step: the compiled backend beside plain PyTorch, a loop in C and two matching pursuits, in one run.

The setting of the paper's synthetic data (d = 256, m = 2,048: the 1,024 true features and as many random directions)
with 4,096 samples and lam = 0.1: about 8 and 95 steps per sample. Prints medians over repeats taken in turn and ratios,
and writes results/bench_greedy.json. Unless something is marked as given, times include it: correlations, Gram matrix,
and for this package the assembly of the codes.

- The C loop (greedy_loop.c) follows the same matrix products. "loop alone" is without these products. The C loop is
  left out without a C compiler or AVX-512.
- SAELens and overcomplete run matching pursuit with the same atoms and a fixed number of steps, the mean of ours. Both
  may choose an atom twice, neither shrinks coefficients, and both compute all correlations again at each step.
  overcomplete also writes each step as a dense code and multiplies it out. Both are left out if they are not installed,
  and have fewer repeats because they are slow.

The explained variance of each, and the objective of those that minimise it, show that all do the same work.
"""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from problem import problem
from record import medians, peer, processor, write
from torch import Tensor

from sparsecode_pl.coding import greedy_encode, reconstruct
from sparsecode_pl.coding.kernels import greedy_rows
from sparsecode_pl.coding.threads import chunk_rows, share_rows
from sparsecode_pl.metrics.functional import explained_variance, sparse_coding_loss

LAM = 0.1
REPEATS, PEER_REPEATS = 9, 3
# Targets at about 8 and 95 steps per sample: our loop takes at most so many times as long as the C loop, and the peers
# take at least so many times as long as this package.
TARGETS = {"C loop alone": (1.5, 1.5), "SAELens": (6, 30), "overcomplete": (15, 80)}

Loop = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]


def c_loop(folder: Path) -> Loop | None:
    """The loop in C, compiled into a folder; None, with a printed line, if that is not possible."""
    compiler = shutil.which("cc")
    if compiler is None or "avx512f" not in processor("flags").split():
        print("the C loop is left out: it needs cc and a processor with AVX-512")
        return None
    library = folder / "greedy_loop.so"
    options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    source = Path(__file__).with_name("greedy_loop.c")
    subprocess.run([compiler, *options, str(source), "-o", str(library), "-lm"], check=True)  # noqa: S603
    compiled = ctypes.CDLL(str(library))
    compiled.omp_set_num_threads(torch.get_num_threads())

    def run(dots: Tensor, gram: Tensor, chosen: Tensor, values: Tensor, counts: Tensor) -> None:
        pointers = [ctypes.c_void_p(part.data_ptr()) for part in (dots, gram, chosen, values, counts)]
        sizes = [ctypes.c_int64(size) for size in dots.shape]
        compiled.greedy_loop(*pointers[:2], *sizes, ctypes.c_float(LAM / 2), *pointers[2:])

    return run


def buffers(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Buffers for the C loop's atoms and values, (n, m), and their counts, (n,)."""
    return torch.empty(n, m, dtype=torch.int32), torch.empty(n, m), torch.empty(n, dtype=torch.int64)


def with_c(loop: Loop, x: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The greedy step with the loop in C: the matrix products and the loop's results."""
    found = buffers(len(x), len(atoms))
    loop(x @ atoms.T, atoms @ atoms.T, *found)
    return found


def dense(chosen: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """The C loop's results as dense codes, (n, m)."""
    taken = torch.arange(chosen.shape[1]) < counts[:, None]
    codes = torch.zeros_like(values)
    codes[taken.nonzero()[:, 0], chosen[taken].long()] = values[taken]
    return codes


def saelens(atoms: Tensor, steps: int) -> Callable[[Tensor], Tensor] | None:
    """SAELens' matching pursuit, without its checks for an early end."""
    library = peer("sae_lens")
    if library is None:
        return None
    m, d = atoms.shape
    config = library.MatchingPursuitSAEConfig(
        d_in=d,
        d_sae=m,
        apply_b_dec_to_input=False,
        residual_threshold=0.0,
        max_iterations=steps,
        stop_on_duplicate_support=False,
    )
    sae = library.MatchingPursuitSAE(config)
    sae.W_dec.data = atoms
    return sae.encode


def overcomplete(atoms: Tensor, steps: int) -> Callable[[Tensor], Tensor] | None:
    """Overcomplete's matching pursuit."""
    spec = None if "overcomplete" in sys.modules else importlib.util.find_spec("overcomplete")
    if spec is not None:
        # An empty package: its own __init__ imports torchvision and OpenCV, which its `sae` does not need.
        sys.modules["overcomplete"] = importlib.util.module_from_spec(spec)
    library = peer("overcomplete.sae")
    if library is None:
        return None
    m, d = atoms.shape
    sae = library.MpSAE(d, m, k=steps, dictionary_params={"initializer": atoms.numpy(), "normalization": "identity"})
    sae.eval()
    return lambda x: sae.encode(x)[1]


def quality(x: Tensor, atoms: Tensor, codes: Tensor, minimises: bool) -> dict[str, float]:
    """Explained variance of codes, dense or CSR, and the objective if the method minimises it."""
    codes = codes if codes.layout == torch.sparse_csr else codes.to_sparse_csr()
    residual = x - reconstruct(codes, atoms)
    found = {"explained_variance": float(explained_variance(residual, x))}
    if minimises:
        found["objective"] = float(sparse_coding_loss(codes, residual, LAM))
    return found


@torch.no_grad()
def compare(active: float, loop: Loop | None, target: int) -> dict[str, Any]:
    """Compare all on one data set; `target` is the index of its targets."""
    x, atoms = problem(active)
    n, gram = len(x), atoms @ atoms.T
    codes = greedy_encode(x, atoms, LAM)
    steps = codes.values().numel() / n
    torch_codes = greedy_encode(x, atoms, LAM, backend="torch")
    scores = {"ours": quality(x, atoms, codes, True), "torch": quality(x, atoms, torch_codes, True)}
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: greedy_encode(x, atoms, LAM),
        "ours, Gram given": lambda: greedy_encode(x, atoms, LAM, gram=gram),
        "torch": lambda: greedy_encode(x, atoms, LAM, backend="torch"),
        "products alone": lambda: (x @ atoms.T, atoms @ atoms.T),
    }
    if loop is not None:
        scores["C"] = quality(x, atoms, dense(*with_c(loop, x, atoms)), True)
        calls["C"] = lambda: with_c(loop, x, atoms)
    for name, make in {"SAELens": saelens, "overcomplete": overcomplete}.items():
        encode = make(atoms, round(steps))
        if encode is not None:
            scores[name] = quality(x, atoms, encode(x), False)
            calls[name] = lambda encode=encode: encode(x)
    repeats = {name: PEER_REPEATS if name in ("SAELens", "overcomplete") else REPEATS for name in calls}
    taken = {name: each.wall for name, each in medians(calls, repeats).items()}
    taken |= loops(x @ atoms.T, gram, loop)
    ratios = {name: each / taken["ours"] for name, each in taken.items() if "alone" not in name}
    if loop is not None:
        ratios["C loop alone"] = taken["our loop alone"] / taken["C loop alone"]
    print(f"a = {active:g}, {steps:.1f} steps per sample")
    for name, each in taken.items():
        figures = [f"{1000 * each:.1f} ms"]
        if name in ratios:
            figures.append(f"ours takes {ratios[name]:.2f} x" if "alone" in name else f"{ratios[name]:.2f} x ours")
        if name in TARGETS:
            figures.append(f"target: {'at most' if 'alone' in name else 'at least'} {TARGETS[name][target]:g} x")
        figures += [f"{key.replace('_', ' ')} {value:.4f}" for key, value in scores.get(name, {}).items()]
        print(f"    {name}: {', '.join(figures)}")
    return {
        "active": active,
        "steps_per_sample": steps,
        "steps_of_peers": round(steps),
        "seconds": taken,
        "ratio": ratios,
        "target": {name: values[target] for name, values in TARGETS.items()},
        "million_steps_per_second": n * steps / taken["ours"] / 1e6,
        "quality": scores,
    }


def loops(dots: Tensor, gram: Tensor, loop: Loop | None) -> dict[str, float]:
    """Seconds of our loop, which also sorts the codes, and of the C loop, without the matrix products."""
    work, found = torch.empty_like(dots), buffers(*dots.shape)
    table, half = gram.numpy(), np.float32(LAM / 2)
    least = np.zeros(len(dots), np.float32)
    num_rows = chunk_rows(len(dots), table[0].nbytes)

    def start_thread() -> Callable[[slice], None]:
        counts, room = np.empty(num_rows, np.int64), num_rows * len(gram)
        out = counts, np.empty(room, np.int64), np.empty(room, np.float32)

        def scan(rows: slice) -> None:
            greedy_rows(work[rows].numpy(), table, half, least[rows], len(table), *out)

        return scan

    calls: dict[str, Callable[[], Any]] = {"our loop alone": lambda: share_rows(len(dots), num_rows, start_thread)}
    if loop is not None:
        calls["C loop alone"] = lambda: loop(work, gram, *found)
    for call in calls.values():
        work.copy_(dots)
        call()
    taken = medians(calls, REPEATS, prepare=lambda: work.copy_(dots))  # the calls overwrite it
    return {name: each.wall for name, each in taken.items()}


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        loop = c_loop(Path(folder))
        results = [compare(active, loop, target) for target, active in enumerate((5.0, 20.0))]
    settings = {"n": 4096, "d": 256, "m": 2048, "lam": LAM, "repeats": REPEATS, "peer_repeats": PEER_REPEATS}
    write("bench_greedy", results, settings, packages=("torch", "numba", "sae-lens", "overcomplete"))


if __name__ == "__main__":
    main()
