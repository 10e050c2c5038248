"""The folder of the pages: told from other folders by a file that says what it holds."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

from sparsecode_pl.utilities.files import write_file
from sparsecode_pl.utilities.plain import parse_json

#: Says that the folder holds pages.
MARKER = "features.json"
FORMAT = 1
#: The page of token tables.
TOKENS = "tokens.html"
_KIND = "sparsecode-pl features"
_OWN = ("index.html", "pages.css", "pages.js", "names.js", "picture.svg", "atoms", "neuronpedia", "projector")


def check_folder(folder: Path) -> None:
    """Check that pages can be written to a folder: it is absent, empty, or holds pages of an earlier time.

    Raises:
        FileExistsError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"folder is {folder}, which is a file: give an empty folder")
    if folder.is_dir() and any(folder.iterdir()) and not _has_pages(folder):
        raise FileExistsError(f"folder is {folder}, which holds other files: give an empty folder")


def claim(folder: Path, title: str) -> None:
    """Make the folder for a page of its own beside the pages that it may hold, which stay.

    Args:
        folder: made if need be.
        title: of what is written, for a folder that held no pages.

    Raises:
        FileExistsError: it holds something else than pages.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        _mark(folder, title, [], complete=True)


def begin(folder: Path, title: str, names: Sequence[str]) -> None:
    """Make the folder, without the atoms' pages that it may hold, and what was made beside them; other files stay.

    Args:
        folder: made if need be.
        title: of the pages.
        names: of the subjects.

    Raises:
        FileExistsError: it holds something else than pages.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before = {subject_folder(number, name) for number, name in enumerate(_subjects(folder))}
    _mark(folder, title, names, complete=False)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name in before.union(_OWN):
            rmtree(path)
        elif path.name in _OWN:
            path.unlink()


def finish(folder: Path, title: str, names: Sequence[str]) -> None:
    """Say that all pages are written."""
    _mark(folder, title, names, complete=True)


def subject_folder(number: int, name: str) -> str:
    """Folder of a further subject.

    Example:
        >>> subject_folder(1, "Matched Gaussian <b>"), subject_folder(2, "…")
        ('01-matched-gaussian-b', '02-subject')
    """
    words = re.findall("[a-z0-9]+", name.lower())
    return f"{number:02d}-" + ("-".join(words)[:40].strip("-") or "subject")


def _mark(folder: Path, title: str, names: Sequence[str], *, complete: bool) -> None:
    content = {"kind": _KIND, "format": FORMAT, "complete": complete, "title": title, "subjects": list(names)}
    write_file(folder / MARKER, (json.dumps(content, indent=2) + "\n").encode())


def _subjects(folder: Path) -> list[str]:
    """The subjects whose pages the folder holds; none if it holds none, or its marker is damaged."""
    try:
        subjects = parse_json((folder / MARKER).read_bytes()).get("subjects", [])
    except (OSError, ValueError):
        return []
    return [name for name in subjects if isinstance(name, str)] if isinstance(subjects, list) else []


def _has_pages(folder: Path) -> bool:
    try:
        return parse_json((folder / MARKER).read_bytes()).get("kind") == _KIND
    except (OSError, ValueError):
        return False
