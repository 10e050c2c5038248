"""Files that appear whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
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
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them are safe on the disk before the first takes its name.

    A process that dies between two of the renames leaves the others whole under `partial_path`.
    """
    try:
        for path, content in contents.items():
            _write_partial(path, content)
    except OSError:
        for path in contents:
            partial_path(path).unlink(missing_ok=True)
        raise
    for path in contents:
        publish(path)


def _write_partial(path: Path, content: bytes) -> None:
    with partial_path(path).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """The SHA-256 of a whole file, as `sha256sum` prints it, after "sha256:"."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
