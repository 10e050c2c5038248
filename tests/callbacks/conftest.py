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
def fit(quiet_trainer) -> Callable[..., Trainer]:
    """Fits with a quiet trainer, and returns that."""

    def fit(module: SparseCodingModule, data: SparseLinear, *callbacks: Callback, **settings) -> Trainer:
        rounds = {"max_epochs": 2, "log_every_n_steps": 10}
        trainer = quiet_trainer(callbacks=list(callbacks), **{**rounds, **settings})
        trainer.fit(module, data)
        return trainer

    return fit
