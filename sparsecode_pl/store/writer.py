"""Writing a store block by block."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors.torch import save
from torch import Tensor

from sparsecode_pl.store.block import check_block
from sparsecode_pl.store.integrity import check_files
from sparsecode_pl.store.lock import StoreLock
from sparsecode_pl.store.manifest import MANIFEST, FileEntry, Manifest, Shard, column_file, layer_file, plain
from sparsecode_pl.store.shard_file import ShardFile
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.files import UNWRITABLE, checksum, cure, partial_path, what_failed, write_file


class StoreWriter:
    """Write activations of many layers to a folder. An interruption at any moment loses no finished shard.

    Rows are written to disk as they are appended. `end_shard` makes them part of the store, and `finish` completes the
    store. To resume an interrupted store, open it again with the same arguments: `num_shards` and `num_rows` say where
    to continue. If the context is left without `finish`, the finished shards stay. Only one process at a time may
    write.

    Args:
        path: the folder: a new or empty one, or that of a store with the same settings.
        layers: names (of letters, digits, '.', '_' and '-') and widths of the layers.
        columns: names of the columns of integers, with one entry for each row.
        dtype: of the stored rows: float32, float16 or bfloat16.
        source: how the activations are made, in plain types; a store has one source.

    Raises:
        FileExistsError: the path is a file, or a folder with other content.
        ValueError: a name, width or dtype is not allowed, the folder holds a store with other settings, or one of its
            finished shards is damaged.
        TypeError: the source has other than plain types.
        StoreBusyError: another writer has the store open.
        OSError: the store cannot be written.

    Attributes:
        path: the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, StoreWriter(folder, {"0": 4, "1": 4}, ["token"]) as writer:
        ...     writer.append({"0": torch.zeros(2, 4), "1": torch.ones(2, 4)}, {"token": torch.tensor([5, 6])})
        ...     writer.finish(dropped=0)
        ...     writer.num_rows, writer.num_shards, writer.complete
        (2, 1, True)
    """

    def __init__(
        self,
        path: str | Path,
        layers: Mapping[str, int],
        columns: Sequence[str] = (),
        *,
        dtype: torch.dtype = torch.float32,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        check_arguments(StoreWriter.__init__, locals())
        self.path = Path(path)
        self._dtype = dtype
        self._files: list[ShardFile] = []
        self._columns = {name: bytearray() for name in columns}
        self._pending = 0  # rows of the unfinished shard
        self._closed = False
        self._manifest = Manifest(
            str(dtype).removeprefix("torch."), dict(layers), list(columns), plain("source", source or {})
        )
        if not (self.path / MANIFEST).is_file():
            _check_empty(self.path)
        self._lock = StoreLock(self.path)
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        if (self.path / MANIFEST).is_file():
            stored = Manifest.read(self.path)
            _check_same(self.path, self._manifest, stored)
            check_files(self.path, stored)
            self._manifest = stored
            self._remove_leftovers()
        else:
            with self._writing():
                self._commit(self._manifest)

    @property
    def complete(self) -> bool:
        """Whether the store is finished."""
        return self._manifest.complete

    @property
    def num_shards(self) -> int:
        """Finished shards."""
        return len(self._manifest.shards)

    @property
    def num_rows(self) -> int:
        """Rows of each layer in finished shards."""
        return self._manifest.num_rows

    def append(self, rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> None:
        """Write rows to the unfinished shard.

        The rows are written to disk. The columns, four bytes for each entry, stay in memory until the shard ends.

        Args:
            rows: for each layer (k, width), of any floating dtype, on any device.
            columns: for each column (k,), integers that fit into 32 bits.

        Raises:
            ValueError: a layer or column is missing, unknown or of the wrong shape, or has values that are not finite,
                or not in the stored dtype; then nothing is written.
            OSError: the rows cannot be written; the shard is discarded, and the message says what is safe.
            RuntimeError: the store is complete, or the writer is closed.
        """
        self._check_open()
        manifest = self._manifest
        first_row = self.num_rows + self._pending
        block = check_block(rows, columns, manifest.layers, manifest.columns, self._dtype, first_row)
        if block.size == 0:
            return
        with self._writing():
            if not self._files:
                for layer, width in manifest.layers.items():
                    path = self.path / layer_file(layer, self.num_shards)
                    self._files.append(ShardFile(path, width, manifest.dtype))
            for file, layer in zip(self._files, manifest.layers, strict=True):
                file.append(block.rows[layer])
            for name, column in block.columns.items():
                self._columns[name] += column.numpy().tobytes()
            self._pending += block.size

    def end_shard(self) -> None:
        """Make the rows appended since the last call a durable part of the store, if there are any.

        Raises:
            OSError: they cannot be written.
            RuntimeError: the store is complete, or the writer is closed.
        """
        self._check_open()
        if self._pending:
            self._commit_shard(self._manifest)

    def _commit_shard(self, manifest: Manifest) -> None:
        """Finish the shard, add it to a manifest, and make that the manifest of the store."""
        with self._writing():
            with ThreadPoolExecutor() as pool:  # computes the checksums of some files while others wait for the disk
                files = dict(pool.map(self._seal, self._files))
            if self._columns:
                columns = {name: torch.frombuffer(x, dtype=torch.int32) for name, x in self._columns.items()}
                path = self.path / column_file(self.num_shards)
                path.parent.mkdir(exist_ok=True)
                write_file(path, save(columns))
                files |= [self._entry(path)]
            shard = Shard(self._pending, files)
            self._commit(replace(manifest, shards=[*manifest.shards, shard]))
        self._forget()

    def finish(self, **facts: Any) -> None:
        """End the shard and mark the store as complete.

        Args:
            facts: what became known only now, such as how many rows were dropped; in plain types.

        Raises:
            ValueError: no row was ever appended.
            TypeError: the facts have other than plain types.
            OSError: the store cannot be written.
            RuntimeError: the store is complete, or the writer is closed.
        """
        facts = plain("facts", facts)
        self._check_open()
        if self.num_rows + self._pending == 0:
            raise ValueError(f"the store at {self.path} got no rows: append some before it is finished")
        manifest = replace(self._manifest, complete=True, facts=facts)
        if self._pending:  # both at once: a store interrupted in between would be resumed, and its facts would be wrong
            self._commit_shard(manifest)
        else:
            with self._writing():
                self._commit(manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _check_open(self) -> None:
        if self.complete:
            raise RuntimeError(f"the store at {self.path} is complete: give another path to write more")
        if self._closed:
            raise RuntimeError(f"the writer of the store at {self.path} is closed: open another to continue")

    def _seal(self, file: ShardFile) -> tuple[str, FileEntry]:
        file.seal()
        return self._entry(file.path)

    def _entry(self, path: Path) -> tuple[str, FileEntry]:
        """The manifest's entry of a finished file."""
        return path.relative_to(self.path).as_posix(), {"bytes": path.stat().st_size, "checksum": checksum(path)}

    def _commit(self, manifest: Manifest) -> None:
        manifest.write(self.path)
        self._manifest = manifest

    def _forget(self) -> None:
        self._files = []
        self._columns = {name: bytearray() for name in self._columns}
        self._pending = 0

    def _discard(self) -> None:
        for file in self._files:
            file.discard()
        self._forget()
        self._closed = True
        self._lock.release()

    def _remove_leftovers(self) -> None:
        """Remove what a killed process has left: partial files, and shards that are not in the manifest."""
        known = {self.path / name for shard in self._manifest.shards for name in shard.files}
        for pattern in ("layers/*/*.safetensors*", "columns/*.safetensors*"):
            for path in self.path.glob(pattern):
                if path not in known:
                    path.unlink()
        partial_path(self.path / MANIFEST).unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Close the writer if what is inside fails, because the layers may then have different lengths."""
        try:
            yield
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise OSError(
                    error.errno,
                    f"the store at {self.path} {what_failed(error)}: {self.num_rows} rows of each layer are safe "
                    f"there, in {self.num_shards} shards. To go on from there, {cure(error)} and run the same again; "
                    f"or read what is there with ActivationStore('{self.path}', ..., partial=True)",
                ) from error
            raise


def _check_same(path: Path, given: Manifest, stored: Manifest) -> None:
    """Refuse to resume a store that was made with other settings."""
    new, old = _settings(given), _settings(stored)
    for name in {**new, **old}:  # in order, unlike a union of sets
        if new.get(name) != old.get(name):
            raise ValueError(
                f"{name} is {new.get(name)!r}, but the store at {path} was made with {old.get(name)!r}: give the same, "
                "delete that folder, or give another path"
            )


def _settings(manifest: Manifest) -> dict[str, Any]:
    settings = {"dtype": manifest.dtype, "layers": manifest.layers, "columns": manifest.columns}
    return settings | {f"source[{name!r}]": value for name, value in manifest.source.items()}


def _check_empty(path: Path) -> None:
    if path.is_dir():
        if not {entry.name for entry in path.iterdir()} <= {partial_path(path / MANIFEST).name}:
            raise FileExistsError(
                f"path is '{path}', and that folder has content that is not a store: give another path"
            )
    elif path.exists():
        raise FileExistsError(f"path is '{path}', and that is a file: give the path of a folder")
