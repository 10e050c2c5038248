"""Atomic files: they appear whole or not at all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

#: Ending of a file that is being written.
PARTIAL = ".partial"


def partial_path(path: Path) -> Path:
    """The path of a file while it is being written."""
    return path.with_name(path.name + PARTIAL)


def publish(path: Path) -> None:
    """Rename a partial file, already synced, to its final name, durably."""
    partial_path(path).replace(path)
    if os.name == "posix":  # other systems can neither open a folder nor need to
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, atomically and durably."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are synced to disk before the first one is renamed.

    If the process dies between two renames, the remaining files are whole under `partial_path`.
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
    """The SHA-256 of a file: "sha256:" and the digits that `sha256sum` prints."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def checksum_of(*parts: bytes | memoryview) -> str:
    """The same of content in memory, whose parts follow one another.

    Example:
        >>> checksum_of(b"ab", b"c") == checksum_of(b"abc")
        True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return "sha256:" + digest.hexdigest()
