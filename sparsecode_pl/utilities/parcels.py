"""Functions as files, which worker processes call: nothing large travels over the network, and nothing large twice."""

import io
import shutil
import socket
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cloudpickle
import torch
from torch import Tensor

# Tensors of fewer bytes stay in the file of the function that uses them.
_LARGE = 2**20
_PREFIX = ".jobs-"


class Parcels:
    """Functions without arguments, each written to a file that a worker process reads; a context manager.

    A tensor of 1 MiB or more is written once, whichever functions use it. Workers map its file into memory, so that the
    workers of a machine share one copy. The files are removed at the end; `remove_parcels` removes those that a killed
    process has left.

    Args:
        folder: an existing folder that all workers see; the files are in a hidden folder of their own in here.
    """

    def __init__(self, folder: Path) -> None:
        self._parent = folder
        self._written: dict[Any, tuple[Tensor, Path]] = {}
        self._numbers = count()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._written.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def pack(self, function: Callable[[], Any]) -> Path:
        """Write a function with all that it refers to.

        Returns:
            The file, for `open_parcel`.

        Raises:
            OSError: the file cannot be written.
        """
        content = io.BytesIO()
        _Pickler(content, self._file_of).dump(function)
        path = self._new_file()
        path.write_bytes(content.getvalue())
        return path

    def _file_of(self, tensor: Tensor) -> Path:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._written:
            path = self._new_file()
            torch.save(tensor.clone(memory_format=torch.contiguous_format), path)  # a view would bring its whole tensor
            self._written[key] = tensor, path  # kept, so that no other tensor gets the same address
        return self._written[key][1]

    def _new_file(self) -> Path:
        return self._folder / str(next(self._numbers))


def remove_parcels(folder: Path) -> None:
    """Remove the files that a killed process has left in a folder, which no other may be using."""
    for left in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def open_parcel(path: Path) -> Callable[[], Any]:
    """Read a function that `Parcels.pack` has written.

    Raises:
        FileNotFoundError: this machine does not see the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the machine {socket.gethostname()} does not see {path.parent.parent}: give an output folder on storage "
            "that all machines share, under the same path"
        ) from None
    function: Callable[[], Any] = cloudpickle.loads(content)
    return function


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Pickles large tensors as the files that they are written to.

    Args:
        file: what is written to.
        file_of: writes a tensor, and returns the file.
    """

    def __init__(self, file: io.BytesIO, file_of: Callable[[Tensor], Path]) -> None:
        super().__init__(file)
        self._file_of = file_of

    def reducer_override(self, obj: Any) -> Any:
        plain = type(obj) is Tensor and obj.layout == torch.strided and obj.device.type == "cpu"
        if plain and not obj.requires_grad and obj.nbytes >= _LARGE:
            return _mapped, (self._file_of(obj),)
        return super().reducer_override(obj)


def _mapped(path: Path) -> Tensor:
    """A tensor over a file. Writing to it changes only this process's copy."""
    tensor: Tensor = torch.load(path, mmap=True, weights_only=True)
    return tensor
