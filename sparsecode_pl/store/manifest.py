"""The manifest: what a store holds."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from sparsecode_pl.utilities.files import write_file
from sparsecode_pl.utilities.plain import check_type, parse_json

FORMAT = 1
MANIFEST = "manifest.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_NAME = re.compile(r"(?!\.{1,2}$|__metadata__$)[A-Za-z0-9._-]+")  # file names in every system, keys in safetensors


class FileEntry(TypedDict):
    """What a manifest says of a file: its size and its checksum."""

    bytes: int
    checksum: str


@dataclass(frozen=True)
class Shard:
    """Some rows of every layer and column.

    Attributes:
        rows: how many.
        files: for each file, by its path relative to the store, its size and its checksum.
    """

    rows: int
    files: dict[str, FileEntry]


class _ShardContent(TypedDict):
    """A shard as JSON."""

    rows: int
    files: dict[str, FileEntry]


class _Content(TypedDict):
    """A manifest as JSON."""

    format: int
    num_rows: int
    dtype: str
    layers: dict[str, int]
    columns: list[str]
    source: dict[str, Any]
    complete: bool
    facts: dict[str, Any]
    shards: list[_ShardContent]


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        layers: their names and widths.
        columns: names of the columns.
        source: how the activations were made.
        complete: whether all rows are written.
        facts: what became known only at the end.
        shards: the finished shards.

    Raises:
        ValueError: the dtype is another, there is no layer, or a name or width is not allowed.
    """

    dtype: str
    layers: dict[str, int]
    columns: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype}: give one of {', '.join(DTYPES)}")
        if not self.layers:
            raise ValueError("layers is empty: give at least one layer and its width")
        _check_names("layers", self.layers)
        _check_names("columns", self.columns)
        for layer, width in self.layers.items():
            if width < 1:
                raise ValueError(f"layers gives {layer!r} a width of {width}: give at least 1")

    @property
    def num_rows(self) -> int:
        """Rows of each layer in all shards."""
        return sum(shard.rows for shard in self.shards)

    def tensors(self, shard: int, rows: int) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
        """The files of a shard and, for each, the dtype and shape of every tensor in it."""
        files: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
            layer_file(layer, shard): {"activations": (self.dtype, (rows, width))}
            for layer, width in self.layers.items()
        }
        if self.columns:
            files[column_file(shard)] = dict.fromkeys(self.columns, ("int32", (rows,)))
        return files

    def write(self, folder: Path) -> None:
        """Replace the manifest of a store atomically."""
        content = {"format": FORMAT, "num_rows": self.num_rows, **asdict(self)}
        write_file(folder / MANIFEST, json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a store.

        Raises:
            FileNotFoundError: the folder holds no store.
            ValueError: the manifest is damaged, or of a newer format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            what = (
                "that folder is no store, it holds no manifest.json" if folder.is_dir() else "there is no such folder"
            )
            raise FileNotFoundError(
                f"path is '{folder}', and {what}: give the folder that `sparsecode cache` or `write_store` wrote"
            )
        try:
            content = parse_json(path.read_bytes())
            check_type("its format", content.get("format"), int)
            if content["format"] > FORMAT:
                raise ValueError(
                    f"it is of format {content['format']}, but this version reads formats up to {FORMAT}: install a "
                    "newer one"
                )
            check_type("", content, _Content)
            num_rows = content.pop("num_rows")
            del content["format"]
            manifest = cls(**content | {"shards": [Shard(**shard) for shard in content["shards"]]})
            if num_rows != manifest.num_rows:
                raise ValueError(f"it says {num_rows} rows, but its shards have {manifest.num_rows}: write it again")
            if any(shard.rows < 1 for shard in manifest.shards):
                raise ValueError("a shard of it has no rows: write it again")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not the manifest of a store that can be read here: {error}") from error
        return manifest


def layer_file(layer: str, shard: int) -> str:
    """Path of a shard of a layer, relative to the store."""
    return f"layers/{layer}/{shard:05d}.safetensors"


def column_file(shard: int) -> str:
    """Path of the columns of a shard, relative to the store."""
    return f"columns/{shard:05d}.safetensors"


def plain(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary as JSON gives it back.

    Raises:
        TypeError: it holds values that JSON cannot represent.
    """
    try:
        read: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{name} is {value!r}: give text, numbers, lists and dictionaries only ({error})") from error
    return read


def _check_names(argument: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(f"{argument} has {name!r}: give a name of letters, digits, '.', '_' and '-'")
        if name in seen:
            raise ValueError(f"{argument} has {name!r} twice: give each once")
        seen.add(name)
