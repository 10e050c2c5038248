"""A dictionary on disk: `dictionary.safetensors`, `dictionary.json` and a README.md.

The JSON file holds a format number and the checksum of the weights, so that files which do not belong together are
never read as one dictionary.
"""

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sparsecode_pl.utilities.files import checksum_of, partial_path, publish, write_files
from sparsecode_pl.utilities.plain import check_type, parse_json

WEIGHTS, CONFIG, README = "dictionary.safetensors", "dictionary.json", "README.md"
FORMAT = 2
_CURE = "save the dictionary again, or download it again"


class _Weights(TypedDict):
    """What the JSON file says of the weights."""

    checksum: str


class _Content(TypedDict):
    """What must stand in the JSON file; the card is checked by itself."""

    num_atoms: int
    d_model: int
    lam: NotRequired[float | None]
    coder: NotRequired[dict[str, Any]]


class _MismatchError(ValueError):
    """Weights and facts do not belong together."""


def write_folder(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any], readme: str) -> None:
    """Write a dictionary, or replace the one that is there, so that a reader meets the old one or the new one.

    Args:
        folder: made if need be.
        tensors: by name.
        facts: go into the JSON file, of plain types.
        readme: text of the README.md.

    Raises:
        FileExistsError: the folder has a README.md, and no dictionary that it could belong to.
        OSError: it cannot be written.
    """
    if (folder / README).exists() and not (folder / CONFIG).exists():
        raise FileExistsError(f"folder {folder} has a README.md that is not a dictionary's: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _finish_save(folder)
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    content = {"format": FORMAT, **facts, "weights": {"file": WEIGHTS, "checksum": checksum_of(weights)}}
    config = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_files({folder / WEIGHTS: weights, folder / CONFIG: config.encode(), folder / README: readme.encode()})


def _finish_save(folder: Path) -> None:
    """Finish the save of a process that died between two renames.

    The only JSON file that belongs to the weights is then the partial one, which the next save begins by overwriting.
    """
    config = folder / CONFIG
    if partial_path(config).is_file() and (folder / WEIGHTS).is_file():
        checksum = checksum_of((folder / WEIGHTS).read_bytes())
        if _describing(config, checksum) is None and _describing(partial_path(config), checksum) is not None:
            publish(config)


def _describing(path: Path, checksum: str) -> dict[str, Any] | None:
    """The content of a JSON file if it is there and belongs to weights of this checksum."""
    try:
        content = _parse(path)
    except (OSError, ValueError):
        return None
    return content if _checksum(content) == checksum else None


def _checksum(content: dict[str, Any]) -> str | None:
    """The checksum of the weights that a JSON file belongs to; None in format 1, which has none."""
    checksum: str | None = content.get("weights", {}).get("checksum")
    return checksum


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts of a dictionary.

    Raises:
        FileNotFoundError: the folder holds no dictionary.
        ValueError: it is damaged, or of a format that is not known here.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give a folder that Dictionary.save_pretrained wrote")
    if not ((folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()):
        there = sorted(path.name for path in folder.iterdir())[:6]
        raise FileNotFoundError(
            f"folder {folder} holds no dictionary ({WEIGHTS} and {CONFIG}), only {', '.join(there) or 'nothing'}: give "
            "a folder that Dictionary.save_pretrained wrote"
        )
    try:
        weights = (folder / WEIGHTS).read_bytes()
        facts = _facts(folder, weights)
    except _MismatchError:  # perhaps another process has saved meanwhile: read once more
        weights = (folder / WEIGHTS).read_bytes()
        facts = _facts(folder, weights)
    try:
        return load(weights), facts
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}): {_CURE}") from error


def _facts(folder: Path, weights: bytes) -> dict[str, Any]:
    path = folder / CONFIG
    content = _parse(path)
    checksum = checksum_of(weights)
    if _checksum(content) in (None, checksum):
        return content
    # A process that died between the two renames of a save has left the JSON file that belongs to these weights.
    later = _describing(partial_path(path), checksum)
    if later is None:
        raise _MismatchError(
            f"{folder / WEIGHTS} is not the file that {CONFIG} describes (their checksums differ): {_CURE}"
        )
    return later


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
        check_type("its format", content.get("format"), int)
        number: int = content["format"]
        if number < 1:
            raise ValueError(f"its format is {number}")
        if number > FORMAT:
            raise ValueError(f"it is of format {number}, and this version reads up to {FORMAT}: update sparsecode-pl")
        check_type("", content, _Content)
        if number != 1 or "weights" in content:
            check_type("its weights", content.get("weights"), _Weights)
    except ValueError as error:
        raise ValueError(f"{path} is not a dictionary's or is damaged: {error}; {_CURE}") from error
    return content
