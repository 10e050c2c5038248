from collections.abc import Callable

import pytest
from lightning import Trainer

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def trainer_for(tmp_path) -> Callable[..., Trainer]:
    """Makes a quiet trainer of some rounds."""

    def make(module: SparseCodingModule, rounds: int) -> Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
        return Trainer(
            max_epochs=rounds,
            callbacks=[AdaptivePenalty()],
            num_sanity_val_steps=0,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **quiet,
        )

    return make
