"""One shard of one layer, written row by row."""

import json
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from sparsecode_pl.utilities.files import partial_path, publish

#: Names of the dtypes in safetensors.
SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int32": "I32"}

# Room for the header, which is known only at the end: its length (8 bytes), JSON, and padding spaces.
_HEADER = 256


class ShardFile:
    """A safetensors file with one tensor, "activations", that grows row by row and gets its name when it is complete.

    Args:
        path: the file when it is complete.
        width: of the rows.
        dtype: "float32", "float16" or "bfloat16".
    """

    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self.path = path
        self._width, self._dtype, self._rows = width, dtype, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = partial_path(path).open("wb")
        self._file.write(b" " * _HEADER)

    def append(self, rows: Tensor) -> None:
        """Write rows, (k, width), contiguous, on the CPU and of the file's dtype."""
        self._file.write(rows.view(torch.uint8).numpy().data)
        self._rows += len(rows)

    def seal(self) -> None:
        """Write the header and make the file durable under its own name."""
        size = self._file.tell() - _HEADER
        entry = {"dtype": SAFETENSORS[self._dtype], "shape": [self._rows, self._width], "data_offsets": [0, size]}
        header = json.dumps({"activations": entry}, separators=(",", ":")).encode()
        self._file.seek(0)
        self._file.write((_HEADER - 8).to_bytes(8, "little") + header.ljust(_HEADER - 8))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self.path)

    def discard(self) -> None:
        """Discard the rows, unless the file is complete already."""
        with suppress(OSError):  # on a full disk closing fails again, but the descriptor is released
            self._file.close()
        with suppress(OSError):  # where nothing can be changed any more, the next writer removes it
            partial_path(self.path).unlink(missing_ok=True)
