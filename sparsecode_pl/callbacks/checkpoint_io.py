"""How checkpoint files are written and read."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from sparsecode_pl.utilities.checkpoint import read_checkpoint
from sparsecode_pl.utilities.files import partial_path, publish


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to checkpoint files, made safe.

    A checkpoint appears whole or not at all, also if the process is killed or the power fails while it is written. A
    checkpoint that is read can hold nothing but tensors and plain types.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; what was there before is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial_path(path).open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # PyTorch turns a full disk into a RuntimeError
            with suppress(OSError):  # where nothing can be changed any more
                partial_path(path).unlink(missing_ok=True)
            raise OSError(
                f"checkpoint {path} cannot be written ({error}). The checkpoints before it are still there"
            ) from error
        publish(path)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        """Read a checkpoint; see `read_checkpoint`."""
        return read_checkpoint(path, map_location)
