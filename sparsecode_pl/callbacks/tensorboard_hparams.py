"""Settings and final scores in TensorBoard's HParams tab."""

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from sparsecode_pl.module import SparseCodingModule


class TensorBoardHParams(Callback):
    """Log the data, the hyper-parameters and the final scores when training ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Log settings and scores."""
        data = pl_module.data
        settings = {name: value for name, value in pl_module.hparams.items() if name[0] != "_" and value is not None}
        settings |= {
            "data": data.label,
            "num_atoms": pl_module.dictionary.shape[0],
            "batch_size": data.batch_size,
            "batches_per_round": data.batches_per_round,
            "val_split": data.val_split,
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(settings, pl_module.scores, step=trainer.global_step)
