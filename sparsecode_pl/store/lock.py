"""One writer at a time."""

import fcntl
import os
from pathlib import Path


class StoreBusyError(OSError):
    """Another writer has the store open."""


class StoreLock:
    """Locks a store for one writer, until the lock is released or the process ends in any way.

    Args:
        path: the store's folder, created if needed.

    Raises:
        StoreBusyError: another process has locked it.
        OSError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._folder: int | None = os.open(path, os.O_RDONLY)  # the folder itself is locked, so no file is left behind
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StoreBusyError(
                f"another writer has the store at {path} open: wait until it is done, or give another path"
            ) from error

    def release(self) -> None:
        """Let other processes write."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def __del__(self) -> None:
        self.release()
