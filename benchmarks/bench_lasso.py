"""Exact coefficients: `lasso_encode` beside scikit-learn's and SPAMS', and beside the greedy step, in one run.

The setting of the paper's synthetic data (d = 256, m = 2,048: the 1,024 true features and as many random directions)
with 4,096 samples, lam = 0.1 and a relative duality gap of 1e-4. Wall time and processor time of all threads, medians
over repeats taken in turn; processor time bears a busy machine better. SPAMS (PyPI: spams, or spams-bin) is left out
where it is not installed, and scikit-learn, which takes minutes, does some of the samples only. Writes
results/bench_lasso.json.
"""

import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import sparse_encode
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.coding import csr_codes, greedy_encode, lasso_encode
from sparsecode_pl.coding.lasso_torch import relative_gap

LAM, TOL, SAMPLES = 0.1, 1e-4, 4096
REPEATS = 5
SCIKIT_SAMPLES = 256


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def largest_gap(x: torch.Tensor, atoms: torch.Tensor, codes: torch.Tensor) -> dict[str, float]:
    """Largest and mean relative gap, in float64."""
    x, atoms, codes = x.double(), atoms.double(), codes.to_dense().double()
    residual = x - codes @ atoms
    gap = relative_gap(x, residual, residual @ atoms.T, codes, LAM)
    return {"largest": float(gap.max()), "mean": float(gap.mean())}


def with_scikit_learn(x: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
    """Codes by scikit-learn, whose alpha is lam / 2."""
    options = {"algorithm": "lasso_cd", "alpha": LAM / 2, "positive": True, "max_iter": 1000}
    codes = sparse_encode(x.numpy(), atoms.numpy(), **options)
    return torch.from_numpy(codes).to_sparse_csr()


def spams_encoder() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """Codes by SPAMS' LARS, whose lambda1 is lam / 2; None where it is not installed."""
    try:
        spams = importlib.import_module("spams")
    except ImportError:
        return None

    def encode(x: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        # Rows in C order are columns in Fortran order.
        options = {"lambda1": LAM / 2, "mode": 2, "pos": True, "numThreads": torch.get_num_threads()}
        codes = spams.lasso(x.numpy().T, D=atoms.numpy().T, **options)
        parts = codes.indptr.astype(np.int64), codes.indices.astype(np.int64), codes.data
        return csr_codes(*map(torch.from_numpy, parts), len(atoms))

    return encode


def main() -> None:
    """Run the benchmark."""
    others = torch.nn.functional.normalize(torch.randn(1024, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    spams_encode = spams_encoder()
    results = []
    for active in (5.0, 20.0):
        data = SparseLinear(active=active, num_samples=SAMPLES, val_split=0)
        x, atoms = data.rows, torch.cat([data.ground_truth.features, others])
        found = lasso_encode(x, atoms, LAM, tol=TOL)
        few = x[:SCIKIT_SAMPLES]
        gaps = {
            "ours": largest_gap(x, atoms, found.codes),
            "greedy": largest_gap(x, atoms, greedy_encode(x, atoms, LAM)),
            "scikit_learn": largest_gap(few, atoms, with_scikit_learn(few, atoms)),
        }
        calls: dict[str, Callable[[], Any]] = {
            "ours": lambda x=x, atoms=atoms: lasso_encode(x, atoms, LAM, tol=TOL),
            "greedy": lambda x=x, atoms=atoms: greedy_encode(x, atoms, LAM),
            "scikit_learn": lambda few=few, atoms=atoms: with_scikit_learn(few, atoms),
        }
        if spams_encode is not None:
            gaps["spams"] = largest_gap(x, atoms, spams_encode(x, atoms))
            calls["spams"] = lambda x=x, atoms=atoms: spams_encode(x, atoms)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        for _ in range(REPEATS):
            for name, call in calls.items():  # in turn, so that all meet the same machine
                times[name].append(seconds(call))
        scale = {name: SAMPLES / SCIKIT_SAMPLES if name == "scikit_learn" else 1.0 for name in calls}
        medians = {
            clock: {name: scale[name] * statistics.median(pair[i] for pair in times[name]) for name in calls}
            for i, clock in enumerate(("wall", "cpu"))
        }
        ratios = {
            clock: {name: value / medians[clock]["ours"] for name, value in medians[clock].items()} for clock in medians
        }
        record = {
            "active": active,
            "seconds": medians,
            "times_ours": ratios,
            "relative_gap": gaps,
            "sweeps_per_sample": float(found.iterations.double().mean()),
            "nonzero_per_sample": found.codes.values().numel() / SAMPLES,
        }
        results.append(record)
        for name in calls:
            print(
                f"a = {active:g}, {name}: wall {medians['wall'][name]:.3f} s ({ratios['wall'][name]:.2f} x ours), "
                f"processor {medians['cpu'][name]:.3f} s ({ratios['cpu'][name]:.2f} x), largest relative gap "
                f"{gaps[name]['largest']:.1e}"
            )
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    settings = {"scikit_learn_samples": SCIKIT_SAMPLES, "samples": SAMPLES, "lam": LAM, "tol": TOL, "repeats": REPEATS}
    path = Path(__file__).parent / "results" / "bench_lasso.json"
    content = {"machine": machine, "versions": versions, "settings": settings, "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
