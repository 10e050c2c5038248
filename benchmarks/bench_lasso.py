"""Exact coefficients: `lasso_encode` beside scikit-learn's and SPAMS', and beside the greedy step, in one run.

The setting of the paper's synthetic data (d = 256, m = 2,048: the 1,024 true features and as many random directions)
with 4,096 samples, lam = 0.1 and a relative duality gap of 1e-4. Prints medians over repeats taken in turn of wall time
and of the processor time of all threads, which depends less on how busy the machine is. Each library is left out if it
is not installed. scikit-learn takes minutes, so it encodes only some of the samples. Writes results/bench_lasso.json.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from problem import problem
from record import medians, peer, write

from sparsecode_pl.coding import csr_codes, greedy_encode, lasso_encode
from sparsecode_pl.coding.lasso_torch import relative_gap

LAM, TOL, SAMPLES = 0.1, 1e-4, 4096
REPEATS = 5
SCIKIT_SAMPLES = 256


def largest_gap(x: torch.Tensor, atoms: torch.Tensor, codes: torch.Tensor) -> dict[str, float]:
    """Largest and mean relative gap, in float64."""
    x, atoms, codes = x.double(), atoms.double(), codes.to_dense().double()
    residual = x - codes @ atoms
    gap = relative_gap(x, residual, residual @ atoms.T, codes, LAM)
    return {"largest": float(gap.max()), "mean": float(gap.mean())}


Encoder = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def scikit_learn_encoder() -> Encoder | None:
    """Codes by scikit-learn, whose alpha is lam / 2; None where it is not installed."""
    library = peer("sklearn.decomposition")
    if library is None:
        return None

    def encode(x: torch.Tensor, atoms: torch.Tensor) -> torch.Tensor:
        options = {"algorithm": "lasso_cd", "alpha": LAM / 2, "positive": True, "max_iter": 1000}
        codes = library.sparse_encode(x.numpy(), atoms.numpy(), **options)
        return torch.from_numpy(codes).to_sparse_csr()

    return encode


def spams_encoder() -> Encoder | None:
    """Codes by SPAMS' LARS, whose lambda1 is lam / 2; None where it is not installed."""
    spams = peer("spams")
    if spams is None:
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
    warnings.simplefilter("ignore")  # scikit-learn warns for each sample that misses its own tolerance
    peers = {"scikit_learn": (scikit_learn_encoder(), SCIKIT_SAMPLES), "spams": (spams_encoder(), SAMPLES)}
    results = []
    for active in (5.0, 20.0):
        x, atoms = problem(active, SAMPLES)
        found = lasso_encode(x, atoms, LAM, tol=TOL)
        gaps = {
            "ours": largest_gap(x, atoms, found.codes),
            "greedy": largest_gap(x, atoms, greedy_encode(x, atoms, LAM)),
        }
        calls: dict[str, Callable[[], Any]] = {
            "ours": lambda x=x, atoms=atoms: lasso_encode(x, atoms, LAM, tol=TOL),
            "greedy": lambda x=x, atoms=atoms: greedy_encode(x, atoms, LAM),
        }
        for name, (encode, samples) in peers.items():
            if encode is not None:
                some = x[:samples]
                gaps[name] = largest_gap(some, atoms, encode(some, atoms))
                calls[name] = lambda encode=encode, some=some, atoms=atoms: encode(some, atoms)
        scale = {name: SAMPLES / peers[name][1] if name in peers else 1.0 for name in calls}
        taken = medians(calls, REPEATS)
        clocks = {
            clock: {name: scale[name] * getattr(each, clock) for name, each in taken.items()}
            for clock in ("wall", "cpu")
        }
        ratios = {
            clock: {name: value / clocks[clock]["ours"] for name, value in clocks[clock].items()} for clock in clocks
        }
        record = {
            "active": active,
            "seconds": clocks,
            "times_ours": ratios,
            "relative_gap": gaps,
            "sweeps_per_sample": float(found.iterations.double().mean()),
            "nonzero_per_sample": found.codes.values().numel() / SAMPLES,
        }
        results.append(record)
        for name in calls:
            print(
                f"a = {active:g}, {name}: wall {clocks['wall'][name]:.3f} s ({ratios['wall'][name]:.2f} x ours), "
                f"processor {clocks['cpu'][name]:.3f} s ({ratios['cpu'][name]:.2f} x), largest relative gap "
                f"{gaps[name]['largest']:.1e}"
            )
    settings = {"scikit_learn_samples": SCIKIT_SAMPLES, "samples": SAMPLES, "lam": LAM, "tol": TOL, "repeats": REPEATS}
    write("bench_lasso", results, settings, packages=("torch", "numba", "scikit-learn", "spams-bin"))


if __name__ == "__main__":
    main()
