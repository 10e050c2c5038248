"""Settings beside final scores in TensorBoard's HParams tab."""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoardHParams(Callback):
    """Log the hyper-parameters again when training ends, now with the final scores."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log hyper-parameters and scores."""
        names = ("train/", "heldout/")
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(names)}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(logger.hparams), scores)
