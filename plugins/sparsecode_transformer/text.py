"""Text from a data set on the Hugging Face hub, or from a local file."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROWS = 1000  # read at a time


@dataclass(frozen=True)
class TextSource:
    """Documents of a data set on the Hugging Face hub, or of a local file.

    Args:
        text: a local file in UTF-8: `.txt` (a document on each line), `.jsonl` (an object on each line) or
            `.parquet`; or the name of a data set on the hub, or a folder that `datasets.load_dataset` reads, with
            `:CONFIG` after it if it has several.
        split: of the data set; a file has none.
        column: name of the column with the text, one document per row; a `.txt` file has only the column "text".
        streaming: read a data set of the hub while it is used, without downloading all of it. Files are always read so.
        max_documents: read at most this many; None reads all.
        revision: branch, tag or commit on the hub; a file has none.

    Raises:
        FileNotFoundError: `text` can only be a path, but nothing is there.
        ValueError: the file is of another kind, or an argument does not fit it, or `max_documents` is below 1.

    Example:
        >>> TextSource("wikitext:wikitext-2-raw-v1", split="test", max_documents=100).split  # nothing is read yet
        'test'
    """

    text: str
    split: str = "train"
    column: str = "text"
    streaming: bool = False
    max_documents: int | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents is {self.max_documents}: give at least 1, or leave it out to read all")
        if self._file() is not None:
            for argument, default in (("split", "train"), ("revision", None)):
                value = getattr(self, argument)
                if value != default:
                    raise ValueError(
                        f"{argument} is {value!r}, but {self.text!r} is a file, which has none: leave it out"
                    )

    def documents(self) -> Iterator[str]:
        """The documents in order, without those that are empty, only white space or missing (null).

        Raises:
            OSError: the data set is not on the hub, or cannot be reached.
            ValueError: there is no such split or column, or no document; a row is not text, or a file is malformed.
        """
        count = 0
        try:
            for row, entry in enumerate(self._entries(), start=1):
                if entry is None or not self._checked(entry, row).strip():
                    continue
                yield entry
                count += 1
                if count == self.max_documents:
                    return
        except UnicodeDecodeError as error:
            raise ValueError(f"text is {self.text!r}, which is not UTF-8: convert it. {error}") from error
        if count == 0:
            raise ValueError(f"text is {self.text!r}, and column {self.column!r} holds no document that is not empty")

    def identity(self) -> dict[str, Any]:
        """What identifies the text, in plain types: a file's checksum, or a data set's commit; no local path.

        If the commit of a data set cannot be found out, it is the revision that was given.
        """
        local = self.file_identity()
        if local is not None:
            return local
        name, config = self._dataset()
        name = Path(name).name if Path(name).is_dir() else name
        read = {"column": self.column, "max_documents": self.max_documents}
        return {"dataset": name, "config": config, "split": self.split, "revision": self._commit(), **read}

    def file_identity(self) -> dict[str, Any] | None:
        """The same for a local file; None for a data set."""
        path = self._file()
        if path is None:
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        read = {"column": self.column, "max_documents": self.max_documents}
        return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest, **read}

    def _file(self) -> Path | None:
        """The local file; None if it is a data set."""
        path = Path(self.text).expanduser()
        is_file = path.is_file()
        if is_file and path.suffix.lower() not in _READERS:
            raise ValueError(f"text is {self.text!r}, and no such file is read: give one that ends in {_ENDINGS}")
        if is_file:
            return path
        folder = self._dataset()[0]
        path_like = self.text.startswith(("/", "./", "../", "~")) or self.text.count("/") > 1
        if path.suffix.lower() in _READERS or (path_like and not Path(folder).is_dir()):
            raise FileNotFoundError(
                f"text is {self.text!r}, and there is no such file: give one that ends in {_ENDINGS}, or the name of a "
                "data set on the Hugging Face hub"
            )
        return None

    def _dataset(self) -> tuple[str, str | None]:
        """Name, or folder, and configuration of the data set."""
        name, _, config = self.text.partition(":")
        return str(Path(name).expanduser()), config or None

    def _entries(self) -> Iterable[Any]:
        """The entries of the column, row by row."""
        path = self._file()
        return self._dataset_column() if path is None else _READERS[path.suffix.lower()](path, self.column)

    def _checked(self, entry: Any, row: int) -> str:
        if not isinstance(entry, str):
            raise ValueError(
                f"column is {self.column!r}, and row {row} of {self.text!r} holds {type(entry).__name__}, not text: "
                "give a column of strings"
            )
        try:
            entry.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair, which JSON can hold but no tokenizer takes
            raise ValueError(
                f"text is {self.text!r}, and row {row} is not valid Unicode: correct it. {error}"
            ) from error
        return entry

    def _dataset_column(self) -> Iterator[Any]:
        import datasets

        name, config = self._dataset()
        try:
            rows = datasets.load_dataset(
                name, config, split=self.split, streaming=self.streaming, revision=self.revision
            )
        except OSError as error:
            raise OSError(
                f"text is {self.text!r} (revision {self.revision or 'main'}), and it cannot be read: it is no "
                f"local file that ends in {_ENDINGS}, and the Hugging Face hub has no such data set or cannot be "
                "reached: check the spelling, the connection and HF_HUB_OFFLINE, and log in with `hf auth login` if "
                f"the data set is not public. {error}"
            ) from error
        except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:  # no such split, configuration
            raise ValueError(
                f"text is {self.text!r} and split is {self.split!r}, and `datasets` cannot load that: {error}"
            ) from error
        _check_column(repr(self.text), self.column, rows.column_names or list(next(iter(rows), {self.column: None})))
        for batch in rows.select_columns([self.column]).iter(batch_size=_ROWS):
            yield from batch[self.column]

    def _commit(self) -> str | None:
        """The data set's commit on the hub (a hash of the files' names and dates for a folder)."""
        import datasets

        name, config = self._dataset()
        try:
            return str(datasets.load_dataset_builder(name, config, revision=self.revision).hash)
        except Exception:  # the text may still be readable
            return self.revision


def _check_column(rows: str, column: str, columns: list[str]) -> None:
    if column not in columns:
        raise ValueError(f"column is {column!r}, but {rows} has {', '.join(map(repr, columns))}: give one of these")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            yield line.rstrip("\n")


def _read_txt(path: Path, column: str) -> Iterator[str]:
    _check_column(repr(str(path)), column, ["text"])
    yield from _lines(path)


def _read_jsonl(path: Path, column: str) -> Iterator[Any]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            yield None
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # also of numbers and nesting beyond all bounds
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"text is {str(path)!r}, and its line {number} is not a JSON object: give one per line")
        _check_column(f"line {number} of {str(path)!r}", column, list(row))
        yield row[column]


def _read_parquet(path: Path, column: str) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        with parquet.ParquetFile(path) as file:
            _check_column(repr(str(path)), column, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_ROWS, columns=[column]):
                yield from batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise ValueError(f"text is {str(path)!r}, which is not a Parquet file, or a damaged one: {error}") from error


_READERS: dict[str, Callable[[Path, str], Iterator[Any]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
_ENDINGS = ", ".join(_READERS)
