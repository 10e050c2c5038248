"""The progress bar."""

import math
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from sparsecode_pl.data import ROWS
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.progress import Progress


def _scoring_batches(trainer: Trainer) -> list[int | float]:
    """Number of batches of each loader whose rows are scored."""
    return trainer.num_test_batches if trainer.testing else trainer.num_val_batches


class SparseCodingProgress(ProgressBar):
    """One line for the current round, scoring or coding, with lam and L_norm of the last batch.

    Within a measurement it stands below the line of the measurement.

    Args:
        refresh_rate: batches between two updates, >= 1.

    Raises:
        ValueError: `refresh_rate` is below 1.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        check_arguments(SparseCodingProgress.__init__, locals())
        super().__init__()
        if refresh_rate < 1:
            raise ValueError(f"refresh_rate is {refresh_rate}: give at least 1")
        self.refresh_rate = refresh_rate
        self._line: Progress | None = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show the line."""
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the line."""
        super().setup(trainer, pl_module, stage)
        if self._enabled and trainer.is_global_zero and self._line is None:
            self._line = Progress("preparing", None, unit="batches", rate=False).__enter__()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the line."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the line."""
        self._close()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a round."""
        most = trainer.max_epochs
        rounds = f" (at most {most})" if most and most > 0 else ""
        self._begin(f"round {trainer.current_epoch + 1}{rounds}", trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a trained batch."""
        self._set(batch_idx, trainer.num_training_batches, self.note(trainer, pl_module))

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start scoring."""
        if batch_idx == 0:
            kinds = list(trainer.datamodule.row_sets)  # type: ignore[attr-defined]
            self._begin(f"scoring {ROWS[kinds[dataloader_idx]]}", _scoring_batches(trainer)[dataloader_idx])

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a scored batch."""
        self._set(batch_idx, _scoring_batches(trainer)[dataloader_idx])

    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start coding."""
        if batch_idx == 0:
            self._begin("coding", trainer.num_predict_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a coded batch."""
        self._set(batch_idx, trainer.num_predict_batches[dataloader_idx])

    def note(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """The text at the end of the line: lam and L_norm."""
        metrics = self.get_metrics(trainer, pl_module)
        return ", ".join(
            f"{name.removeprefix('batch/')} {float(value):.3g}"
            for name, value in metrics.items()
            if name != "v_num" and not isinstance(value, str | dict)
        )

    def _begin(self, description: str, total: float) -> None:
        if self._line is not None:
            self._line.begin(description, total if math.isfinite(total) else None)

    def _set(self, batch_idx: int, total: float, note: str = "") -> None:
        if self._line is not None and ((batch_idx + 1) % self.refresh_rate == 0 or batch_idx + 1 == total):
            self._line.set(batch_idx + 1, note)

    def _close(self) -> None:
        if self._line is not None:
            self._line.__exit__(None, None, None)
            self._line = None
