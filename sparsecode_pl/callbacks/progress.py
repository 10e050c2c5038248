"""The progress bar."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class SparseCodingProgress(RichProgressBar):
    """Rich's progress bar with lam and L_norm of the batch.

    Args:
        refresh_rate: batches between two drawings.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def _get_train_description(self, current_epoch: int) -> str:
        rounds = self.trainer.max_epochs
        return f"Round {current_epoch + 1}" + (f" (at most {rounds})" if rounds and rounds > 0 else "")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands to the right of the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("batch/"): value for name, value in metrics.items() if name != "v_num"}
