"""Atomic files: they appear whole or not at all."""

import errno
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: What the system says of a disk that is full, read-only or broken.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

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

    Raises:
        OSError: one of them cannot be written; then all stay as they were.
    """
    try:
        for path, content in contents.items():
            _write_partial(path, content)
    except OSError as error:
        with suppress(OSError):  # where nothing can be changed any more
            for path in contents:
                partial_path(path).unlink(missing_ok=True)
        raise OSError(
            error.errno, f"{path} {what_failed(error)}, and what was there is unchanged: {cure(error)}"
        ) from error
    for path in contents:
        publish(path)


def what_failed(error: OSError) -> str:
    """That something cannot be written, and the system's reason."""
    return f"cannot be written ({os.strerror(error.errno) if error.errno else error})"


def cure(error: OSError) -> str:
    """What to do where something cannot be written."""
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"


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
