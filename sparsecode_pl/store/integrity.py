"""Check that the files of a store fit its manifest."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sparsecode_pl.store.manifest import FileEntry, Manifest
from sparsecode_pl.store.shard_file import SAFETENSORS
from sparsecode_pl.utilities.files import checksum

#: What to do about a file of a store that is not what was written.
CURE = "restore it, or delete the store and write it again"


def check_files(folder: Path, manifest: Manifest, verify: bool = False) -> None:
    """Compare each file of a store with what its manifest says.

    Args:
        folder: of the store.
        manifest: of the store.
        verify: also read every file and compare its checksum.

    Raises:
        ValueError: a file is missing, is not listed, or has another size or other contents than listed.
    """
    for number, shard in enumerate(manifest.shards):
        expected = manifest.tensors(number, shard.rows)
        if expected.keys() != shard.files.keys():
            odd = sorted(expected.keys() ^ shard.files.keys())[0]
            raise ValueError(f"{folder}: the manifest's shard {number} and its layers and columns differ in {odd}")
        for name, tensors in expected.items():
            _check_file(folder / name, shard.files[name]["bytes"], tensors)
    if verify:
        files = [(folder / name, file) for shard in manifest.shards for name, file in shard.files.items()]
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(_check_sum, *zip(*files, strict=True)) if files else ():
                pass


def _check_file(path: Path, size: int, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing, but the manifest lists it: {CURE}")
    if path.stat().st_size != size:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, but the manifest says {size}: {CURE}")
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}): {CURE}") from error
    wanted = {name: (SAFETENSORS[dtype], shape) for name, (dtype, shape) in tensors.items()}
    if found != wanted:
        raise ValueError(f"{path} holds {found}, but the manifest says {wanted}: {CURE}")


def _check_sum(path: Path, file: FileEntry) -> None:
    found = checksum(path)
    if found != file["checksum"]:
        raise ValueError(
            f"{path} has changed: its checksum is {found}, but the manifest says {file['checksum']}: {CURE}"
        )
