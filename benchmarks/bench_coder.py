"""Whole fits on streams with three coders side by side: greedy, refined and exact.

The paper's synthetic data (d = 256, 1,024 features, noise 0.1, 2,048 atoms) with a growing number of active features,
as a stream, with the default schedule and the adaptive penalty. Scores are of held-out rows at the penalty that the
training has settled at. Training with the exact coder is left out at a = 80, where it takes many times as long. Seconds
are measured from the start of training to the last score, and include drawing the rows.

The coders alone are compared on 1,024 samples, with the true features and as many random directions as atoms, at a
penalty of 0.1. Writes results/bench_coder.json.
"""

import logging
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from problem import problem
from record import medians, seconds, write
from sparsecode_synthetic import SparseLinear

from sparsecode_pl import SparseCodingModule
from sparsecode_pl.coding import Coder, GreedyCoder, LassoCoder, RefinedCoder, reconstruct
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.metrics.functional import atom_recovery, oracle_sparsity
from sparsecode_pl.scoring import Scores, score

ACTIVE = (5, 20, 40, 80)
CODERS: dict[str, type[Coder]] = {"greedy": GreedyCoder, "refined": RefinedCoder, "exact": LassoCoder}
LEFT_OUT = {(80, "exact")}
LAM, REPEATS = 0.1, 3


def cost(active: float) -> dict[str, Any]:
    """Processor seconds and objective of each coder alone, by name."""
    x, atoms = problem(active, n=1024)
    encode = {name: partial(coder(), x, atoms, LAM) for name, coder in CODERS.items()}
    times = medians(encode, REPEATS)
    found: dict[str, Any] = {"active": active}
    for name, call in encode.items():
        codes = call()
        objective = (x - reconstruct(codes, atoms)).square().sum() + LAM * codes.values().sum()
        found[name] = {"cpu_seconds": times[name].cpu, "objective": float(objective) / len(x)}
    return found


def fit(active: float, coder: str) -> dict[str, float | str]:
    """Scores and seconds of one fit."""
    paper = {"d_model": 256, "num_features": 1024, "noise": 0.1, "num_samples": 20_480, "val_split": 0.2}
    data = SparseLinear(active=active, stream=True, **paper)
    data.prepare_data()
    data.setup("fit")
    module = SparseCodingModule(data.d_model, num_atoms=2048, coder=CODERS[coder]())
    with tempfile.TemporaryDirectory() as folder:
        trainer = default_trainer(module, Path(folder) / "run", enable_progress_bar=False, accelerator="cpu")
        time = seconds(lambda: trainer.fit(module, datamodule=data))
    scores = score(module.dictionary, data.rows[data.heldout_index], [Scores(), ExactCodes()])
    truth = data.source.ground_truth
    return {
        "active": active,
        "coder": coder,
        "oracle_S1": float(oracle_sparsity(truth.codes)),
        **{f"heldout_{name}": float(value) for name, value in scores.items()},
        "atom_recovery": float(atom_recovery(truth.features, module.dictionary.atoms.detach()).mean_max_cosine),
        "lam": module.dictionary.lam,
        "rounds": trainer.current_epoch,
        "seconds": time.wall,
        "cpu_seconds": time.cpu,
    }


def main() -> None:
    """Run the benchmark."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    costs, fits = [], []
    for active in ACTIVE:
        costs.append(cost(active))
        print(costs[-1], flush=True)
    for active in ACTIVE:
        for coder in CODERS:
            if (active, coder) in LEFT_OUT:
                continue
            found = fit(active, coder)
            fits.append(found)
            print(
                f"a = {active}, {coder}: S1 {found['heldout_S1']:.4g} (oracle {found['oracle_S1']:.4g}), coding gap "
                f"{found['heldout_coding_gap']:.2%}, cosine {found['atom_recovery']:.4f}, lam {found['lam']:.4f}, "
                f"{found['rounds']} rounds, {found['seconds']:.0f} s ({found['cpu_seconds']:.0f} s of processors)",
                flush=True,
            )
    write(
        "bench_coder",
        {"alone": costs, "fits": fits},
        {"lam": LAM, "repeats": REPEATS},
        packages=("torch", "lightning", "numba"),
    )


if __name__ == "__main__":
    main()
