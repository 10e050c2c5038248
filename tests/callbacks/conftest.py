from collections.abc import Callable

import pytest
from lightning import Callback, Trainer
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def data() -> SparseLinear:
    """A small problem with a known answer: 900 training rows and 100 held out, 12 batches a round."""
    return SparseLinear(d_model=16, num_features=32, active=1.5, num_samples=1000, batch_size=128, batches_per_round=12)


@pytest.fixture
def fit(tmp_path) -> Callable[..., Trainer]:
    """Fits with a quiet trainer, and returns that."""

    def fit(module: SparseCodingModule, data: SparseLinear, *callbacks: Callback, **settings) -> Trainer:
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        here = {"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path}
        rounds = {"max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 10}
        trainer = Trainer(**{**quiet, **here, **rounds, **settings, "callbacks": list(callbacks)})
        trainer.fit(module, data)
        return trainer

    return fit
