"""Checkpoint files: written atomically, read without running code."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from lightning.fabric.plugins import TorchCheckpointIO

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


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint of Lightning. No code is run that it may hold.

    Args:
        path: the file.
        map_location: where the tensors go.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no checkpoint.
    """
    cure = "give the checkpoint of a fit, lightning_logs/.../checkpoints/*.ckpt"
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint is '{path}', and there is no such file: {cure}")
    try:
        with ZipFile(path) as file:  # PyTorch does not look at the checksums
            if (damaged := file.testzip()) is not None:
                raise OSError(f"{damaged} does not fit its checksum")
        checkpoint = torch.load(path, weights_only=True, map_location=map_location)
        if not isinstance(checkpoint.get("state_dict"), dict):
            raise TypeError("it has no state_dict")
    except MemoryError:
        raise
    except Exception as error:  # a file of another kind fails in many ways
        raise ValueError(
            f"checkpoint is '{path}', and that is damaged, or no checkpoint ({type(error).__name__}: {_line(error)}): "
            f"{cure}"
        ) from error
    return dict(checkpoint)


def _line(error: Exception) -> str:
    """The first line of a message, without what PyTorch advises about untrusted files."""
    return str(error).strip().partition("\n")[0].partition(". ")[0]
