"""The files of a model, in a folder or on the hub."""

import hashlib
from pathlib import Path

_ENDS = 2**20


def model_file(model: str, name: str, revision: str | None = None) -> str | None:
    """The path of one of a model's files, downloaded if needed; None if the model has no such file.

    Args:
        model: a folder, or a name on the hub.
        name: of the file, such as "config.json".
        revision: branch, tag or commit on the hub.
    """
    from transformers.utils import cached_file  # type: ignore[attr-defined]

    try:
        return cached_file(model, name, revision=revision)
    except OSError:
        return None


def fingerprint(model: str) -> str | None:
    """A fingerprint of the model in a folder, without reading all of it; None for a model on the hub.

    It is a SHA-256 of the configuration and of the name, the size and both ends of each file of weights.

    Args:
        model: a folder, or a name on the hub.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ENDS))
            file.seek(-min(_ENDS, path.stat().st_size), 2)
            digest.update(file.read())
    return digest.hexdigest()
