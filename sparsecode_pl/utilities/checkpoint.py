"""Reading checkpoints of Lightning, without Lightning and without running code."""

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch


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
