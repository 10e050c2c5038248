"""The progress bar."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class SparseCodingProgress(RichProgressBar):
    """Rich's progress bar with lam and L_norm of the batch."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands to the right of the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("batch/"): value for name, value in metrics.items() if name != "v_num"}
