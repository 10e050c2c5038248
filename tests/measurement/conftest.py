from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.measurement import measure
from sparsecode_pl.module import SparseCodingModule


def _data(**settings) -> SparseLinear:
    """A small problem with a known answer: 500 rows, 6 batches a round."""
    defaults = {"num_features": 32, "active": 1.5, "num_samples": 500, "batch_size": 128, "batches_per_round": 6}
    return SparseLinear(d_model=16, **{**defaults, **settings})


@pytest.fixture
def make_data() -> Callable[..., SparseLinear]:
    """Makes small problems with a known answer."""
    return _data


def _trainer(module: SparseCodingModule, folder: Path) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    callbacks = [AdaptivePenalty()] if module.fixed_lam is None else []
    return Trainer(accelerator="cpu", devices=1, max_epochs=2, num_sanity_val_steps=0, callbacks=callbacks, **quiet)


@pytest.fixture
def run(tmp_path) -> Callable[..., list[dict[str, Any]]]:
    """Measures with quiet trainers, into a temporary folder."""

    def run(module: SparseCodingModule, data: ActivationDataModule, *controls: ActivationDataModule, **options):
        return measure(module, data, controls, **{"folder": tmp_path / "runs", "trainer": _trainer, **options})

    return run
