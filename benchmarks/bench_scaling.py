"""How the cost of the greedy step and of the exact codes grows with samples, atoms, dimensions and active atoms.

One of the four varies at a time, around 4,096 samples of the paper's synthetic data, 2,048 atoms, half of them true
features, 256 dimensions and 30 greedy steps per sample. The penalty is searched again for each setting, so that only
one quantity varies. The Gram matrix is included: an exponent below 1 means that part of the cost is constant. Prints
medians over repeats taken in turn and exponents, draws docs/scaling.png and writes results/bench_scaling.json.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from problem import problem
from record import medians, write
from torch import Tensor

from sparsecode_pl.coding import greedy_encode, lasso_encode

REPEATS = 5
TOL = 1e-4
BASE = {"n": 4096, "m": 2048, "d": 256, "steps": 30}
RANGES = {
    "n": (512, 1024, 2048, 4096, 8192, 16_384),
    "m": (512, 1024, 2048, 4096, 8192),
    "d": (64, 128, 256, 512, 1024),
    "steps": (5, 10, 20, 30, 50, 100),
}
LABELS = {
    "n": "samples n",
    "m": "atoms m",
    "d": "dimensions d",
    "steps": "mean greedy steps (active atoms) per sample",
}
SERIES = {"greedy": ("greedy_encode", "#c2410c", "o"), "lasso": ("lasso_encode, gap 1e-4", "#2563eb", "s")}
PICTURE = Path(__file__).parents[1] / "docs" / "scaling.png"


def penalty(steps: float, x: Tensor, atoms: Tensor) -> float:
    """The penalty at which a sample takes about `steps` greedy steps, by bisection of its logarithm."""
    low, high = 1e-4, 10.0
    for _ in range(14):
        middle = (low * high) ** 0.5
        taken = greedy_encode(x, atoms, middle).values().numel() / len(x)
        low, high = (middle, high) if taken > steps else (low, middle)
    return (low * high) ** 0.5


def measure(n: int, m: int, d: int, steps: int) -> dict[str, Any]:
    """Seconds of both in one setting; `steps / 3` features are active in a sample."""
    x, atoms = problem(steps / 3, n, d, m)
    lam = penalty(steps, x[:512], atoms)
    greedy, lasso = greedy_encode(x, atoms, lam), lasso_encode(x, atoms, lam, tol=TOL)
    calls = {
        "greedy": lambda: greedy_encode(x, atoms, lam),
        "lasso": lambda: lasso_encode(x, atoms, lam, tol=TOL),
    }
    return {
        "n": n,
        "m": m,
        "d": d,
        "steps": greedy.values().numel() / n,
        "lam": lam,
        "nonzero": {"greedy": greedy.values().numel() / n, "lasso": lasso.codes.values().numel() / n},
        "seconds": {name: each.wall for name, each in medians(calls, REPEATS).items()},
    }


def exponent(records: list[dict[str, Any]], varied: str, name: str) -> float:
    """The exponent with which seconds grow with the varied quantity, by least squares over all settings."""
    sizes, taken = [record[varied] for record in records], [record["seconds"][name] for record in records]
    return float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])


def draw(results: dict[str, list[dict[str, Any]]]) -> Figure:
    """One panel for each varied quantity, with logarithmic axes."""
    figure = Figure(figsize=(8.4, 6.4), dpi=150, layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (varied, records) in zip(panels.flat, results.items(), strict=True):
        panel(axes, varied, records)
    for axes in panels[:, 0]:
        axes.set_ylabel("seconds per call")
    fixed = f"n = {BASE['n']:,}, m = {BASE['m']:,}, d = {BASE['d']}, {BASE['steps']} steps per sample"
    figure.suptitle(f"Cost of finding codes, one quantity varied at a time around {fixed}", fontsize=10)
    return figure


def panel(axes: Axes, varied: str, records: list[dict[str, Any]]) -> None:
    """Seconds of both against the varied quantity, beside a line of proportional growth."""
    sizes = np.array([record[varied] for record in records])
    for name, (label, colour, marker) in SERIES.items():
        taken = [record["seconds"][name] for record in records]
        power = f"{label}: exponent {exponent(records, varied, name):.2f}"
        axes.loglog(sizes, taken, color=colour, marker=marker, markersize=4, linewidth=1.5, label=power)
    first = records[0]["seconds"]["greedy"]
    axes.loglog(sizes, first * sizes / sizes[0], color="#94a3b8", linestyle="--", linewidth=1, label="proportional")
    shown = np.array(RANGES[varied])
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(LABELS[varied])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def main() -> None:
    """Run the benchmark."""
    results: dict[str, list[dict[str, Any]]] = {}
    for varied, sizes in RANGES.items():
        results[varied] = [measure(**{**BASE, varied: size}) for size in sizes]
        for record in results[varied]:
            taken = ", ".join(f"{name} {each:.3f} s" for name, each in record["seconds"].items())
            print(f"{LABELS[varied]} {record[varied]:,.4g}: {taken}")
    exponents = {
        varied: {name: exponent(records, varied, name) for name in SERIES} for varied, records in results.items()
    }
    for varied, each in exponents.items():
        print(f"{LABELS[varied]}: exponents " + ", ".join(f"{name} {power:.2f}" for name, power in each.items()))
    draw(results).savefig(PICTURE)
    settings = {"base": BASE, "tol": TOL, "repeats": REPEATS}
    write("bench_scaling", {"exponents": exponents, **results}, settings, packages=("torch", "numba"))


if __name__ == "__main__":
    main()
