"""Ways to damage a file, each a function of numbers that hypothesis draws."""

import json
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

#: Values that stand where another kind is expected.
ODD: list[Any] = [
    *(None, True, False, 0, -1, 3, 2**31, 2**63, 10**30, 10**400, 0.5, -0.5, 1e308, 1e-320, "", "0", "nan", "x" * 300),
    *("../../etc/passwd", "/etc/passwd", "\0", "\x1b[2J", "$\\frac{", "ä😀\u202e", [], [[]], [1, "a"], {}, {"a": {}}),
]


class Trap:
    """Unpickled, it makes a file: a stand-in for code that a hostile pickle runs.

    Args:
        file: the file that it makes.
    """

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (self.file, os.O_CREAT | os.O_WRONLY)


def _truncate(path: Path, number: int, other: Path, trap: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: number % max(1, len(content))])


def _flip(path: Path, number: int, other: Path, trap: Path) -> None:
    content = bytearray(path.read_bytes())
    bit = number % max(1, 8 * len(content))
    if content:
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _flip_start(path: Path, number: int, other: Path, trap: Path) -> None:
    """Flip a bit of the header."""
    _flip(path, number % (8 * 300), other, trap)


def _empty(path: Path, number: int, other: Path, trap: Path) -> None:
    path.write_bytes(b"")


def _delete(path: Path, number: int, other: Path, trap: Path) -> None:
    path.unlink()


def _folder(path: Path, number: int, other: Path, trap: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, number: int, other: Path, trap: Path) -> None:
    """Make it a link: to nothing, to itself, to a folder, to a device, to another file."""
    path.unlink()
    path.symlink_to([path.parent / "nowhere", path, path.parent, Path("/dev/null"), other][number % 5])


def _swap(path: Path, number: int, other: Path, trap: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _copy(path: Path, number: int, other: Path, trap: Path) -> None:
    if other != path:
        shutil.copy(other, path)


def _junk(path: Path, number: int, other: Path, trap: Path) -> None:
    path.write_bytes(number.to_bytes(8, "little") * (1 + number % 40))


def _huge_header(path: Path, number: int, other: Path, trap: Path) -> None:
    """Give a safetensors file a header that is longer than the file, or than any memory."""
    length = [2**63, 2**40, 100_000_001, 10**6, 2**64 - 1][number % 5]
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])


def _nested(path: Path, number: int, other: Path, trap: Path) -> None:
    path.write_bytes(b"[" * 100_000 if number % 2 else b'{"a":' * 100_000)


def _pickle(path: Path, number: int, other: Path, trap: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(trap), protocol=number % 5))


def _append(path: Path, number: int, other: Path, trap: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(number % 9 + 1))


def _change_json(path: Path, number: int, other: Path, trap: Path) -> None:
    """Change, remove or add an entry of a JSON file; of another file, flip a bit."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        _flip(path, number, other, trap)
        return
    places = list(_places(content))
    if places:
        holder, key = places[number % len(places)]
        number //= len(places)
        if number % 8 == 6:
            del holder[key]
        elif number % 8 == 7 and isinstance(holder, dict):
            holder["unknown"] = ODD[number // 8 % len(ODD)]
        else:
            holder[key] = ODD[number // 8 % len(ODD)]
    path.write_text(json.dumps(content))


def _places(content: Any) -> Any:
    entries = list(content.items()) if isinstance(content, dict) else list(enumerate(content))
    for key, value in entries:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


WAYS = [
    *(_truncate, _flip, _flip_start, _empty, _delete, _folder, _link, _swap, _copy, _junk, _huge_header, _nested),
    *(_pickle, _append, *[_change_json] * 6),
]
JSON_WAY = len(WAYS) - 1
#: A way, which file, which other one, and a number that the way uses.
DAMAGE = st.tuples(st.integers(0, len(WAYS) - 1), *[st.integers(0, 2**20)] * 2, st.integers(0, 2**40))


def damage(folder: Path, case: tuple[int, int, int, int], trap: Path, pattern: str = "*") -> tuple[str, Path]:
    """Damage a file of a folder.

    Args:
        folder: whose files are there to be chosen from.
        case: drawn from `DAMAGE`.
        trap: a file that is made if a pickle is run.
        pattern: of the names of the files.

    Returns:
        The way and the file.
    """
    way, which, beside, number = case
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    path, other = files[which % len(files)], files[beside % len(files)]
    WAYS[way](path, number, other, trap)
    return WAYS[way].__name__.strip("_"), path


_SECONDS = 60


@contextmanager
def ends() -> Iterator[None]:
    """Fails what hangs."""

    def alarm(*_: object) -> None:
        raise AssertionError(f"not done in {_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fresh_copy(folder: Path, place: Path) -> Path:
    """Copy a folder to a place, in place of what is there."""
    if place.exists():
        shutil.rmtree(place)
    return shutil.copytree(folder, place)
