"""An autoencoder that SAELens has trained for a minute, and a random one, beside our dictionary of the same layer.

The rows are layer 3 of stories260K (d = 64) on TinyStories. The autoencoder is trained by SAELens on the training rows
alone. `measure` then scores it with its own encoder, its decoder with greedy and exact codes, and the learnt dictionary
at the same N0 and the same explained variance. Prints the table, and writes results/bench_sae.json.
"""

import logging
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import Seconds, peer, seconds, write
from sparsecode_transformer import TransformerActivations

from sparsecode_pl import SparseCodingModule, measure
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.utilities.quiet import quiet_lightning

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL, TEXT = SHARED / "stories260K", SHARED / "text" / "tinystories_1000.jsonl"
LAYER, FEATURES, K = 3, 512, 16
SAMPLES, BATCH, RATE = 4_000_000, 1024, 1e-3
NUM_ACTIVATIONS, ROUNDS = 100_000, 10
SCORES = ("S1", "L_norm", "N0", "explained_variance", "lam")
LOSS = ("loss_recovered", "zero_loss_recovered", "kl", "cross_entropy")


def batches(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """Training rows in random order, without end."""
    random = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(rows), generator=random)
        yield from (rows[part] for part in order.split(BATCH) if len(part) == BATCH)


def write_autoencoder(sae_lens: Any, rows: torch.Tensor, folder: Path, *, train: bool) -> Seconds:
    """Write a topk autoencoder by SAELens, trained or with its initial weights; returns the time of training."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAEMetadata

    torch.manual_seed(0)
    place = SAEMetadata(model_name="stories260K", hook_name=f"blocks.{LAYER}.hook_resid_pre")
    config = sae_lens.TopKTrainingSAEConfig(d_in=rows.shape[1], d_sae=FEATURES, k=K, metadata=place)
    config.normalize_activations = "expected_average_only_in" if train else "none"
    sae = sae_lens.TopKTrainingSAE(config)

    def fit() -> None:
        settings = SAETrainerConfig(
            total_training_samples=SAMPLES,
            train_batch_size_samples=BATCH,
            lr=RATE,
            lr_end=RATE / 10,
            lr_warm_up_steps=200,
            lr_decay_steps=SAMPLES // BATCH // 5,
            n_batches_for_norm_estimate=50,
        )
        sae_lens.SAETrainer(settings, sae, batches(rows)).fit()

    taken = seconds(fit) if train else Seconds(0.0, 0.0)
    sae.save_inference_model(folder)
    return taken


def main() -> None:
    """Train, measure, print and write."""
    sae_lens = peer("sae_lens")
    if sae_lens is None or not MODEL.is_dir():
        print("nothing to do: sae-lens or the model in ../shared is missing")
        return
    quiet_lightning()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = TransformerActivations(str(MODEL), str(TEXT), layers=LAYER, num_activations=NUM_ACTIVATIONS, device="cpu")
    data.setup("fit")
    rows = data.rows[data.train_index]
    trainer = partial(default_trainer, max_epochs=ROUNDS, accelerator="cpu", enable_progress_bar=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = {
            kind: write_autoencoder(sae_lens, rows, folder / kind, train=kind == "topk_trained")
            for kind in ("topk_trained", "topk_random")
        }
        records = measure(
            SparseCodingModule(rows.shape[1], num_atoms=FEATURES),
            data,
            saes=[folder / kind for kind in taken],
            loss=True,
            folder=folder / "runs",
            trainer=trainer,
        )
    kinds = ("", "heldout_", "unseen_")
    results = {
        record["data"]: {
            name: round(record[name], 4)
            for name in (*(kind + score for kind in kinds for score in SCORES), *LOSS)
            if name in record
        }
        for record in records
    }
    settings = {"rows": len(rows), "features": FEATURES, "k": K, "samples": SAMPLES, "rounds": ROUNDS}
    wall, cpu = (round(each, 1) for each in taken["topk_trained"])
    content = {"scores": results, "training": {"seconds": wall, "processor_seconds": cpu}}
    write("bench_sae", content, settings, packages=("torch", "sae-lens"))


if __name__ == "__main__":
    main()
