"""Files that appear whole or not at all."""

import hashlib
import os
from pathlib import Path

#: Ending of a file that is being written.
PARTIAL = ".partial"


def partial_path(path: Path) -> Path:
    """Where a file is while it is written."""
    return path.with_name(path.name + PARTIAL)


def publish(path: Path) -> None:
    """Rename a partial file that is already synced, durably."""
    partial_path(path).replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, atomically and durably."""
    try:
        with partial_path(path).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(path)
    except OSError:
        partial_path(path).unlink(missing_ok=True)
        raise


def checksum(path: Path) -> str:
    """The SHA-256 of a whole file, as `sha256sum` prints it, after "sha256:"."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
