"""Saves the learnt dictionary in a folder of its own."""

from pathlib import Path

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only

from sparsecode_pl.module import SparseCodingModule


class DictionarySaver(Callback):
    """Save the dictionary in `dictionary/` in the log folder after each round, for `Dictionary.from_pretrained`."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Save the dictionary."""
        if trainer.loggers and trainer.log_dir is not None:
            rank_zero_only(pl_module.dictionary.save_pretrained)(Path(trainer.log_dir) / "dictionary")
