"""Writes predicted codes to disk."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from sparsecode_pl.coding import save_codes
from sparsecode_pl.utilities.arguments import check_arguments


class CodeWriter(Callback):
    """Write the codes of each predicted batch as a shard; `load_codes` reads the folder.

    Args:
        folder: where to write; "codes" in the trainer's log folder if None.

    Raises:
        ValueError: the folder already has shards.
    """

    def __init__(self, folder: str | None = None) -> None:
        check_arguments(CodeWriter.__init__, locals())
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder. It must not hold other codes."""
        if stage != "predict":
            return
        self._path = Path(trainer.strategy.broadcast(self.folder or str(Path(trainer.log_dir or ".") / "codes")))
        if trainer.is_global_zero:
            self._path.mkdir(parents=True, exist_ok=True)
            if any(self._path.glob("*.safetensors")):
                raise ValueError(f"folder {self._path} has codes already: remove them, or give another folder")
        trainer.strategy.barrier()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one shard."""
        index, codes = outputs
        save_codes(self._path / f"codes-{trainer.global_rank:04d}-{batch_idx:06d}.safetensors", codes, index)
