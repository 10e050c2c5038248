"""Autoencoders by the names of folders and of the hub."""

from pathlib import Path

from sparsecode_pl.interchange import saelens, sparsify
from sparsecode_pl.interchange.autoencoder import Autoencoder
from sparsecode_pl.interchange.saelens_scaling import SCALER, WHITENING
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.plain import parse_json

_CURE = (
    "give a folder with cfg.json and sae_weights.safetensors (SAELens) or sae.safetensors (sparsify), a folder of a "
    "repository as user/repository:folder, or a release of SAELens as RELEASE:SAE_ID"
)


def load_autoencoder(name: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Autoencoder:
    """Read a trained sparse autoencoder, in float32, on the CPU. No code is run that its files name or hold.

    Args:
        name: what to read:

            - a local folder that SAELens (version 6, or older) or sparsify has written;
            - `user/repository:folder`, such a folder of a repository on the Hugging Face hub, or `user/repository`;
            - `RELEASE:SAE_ID`, a release of SAELens's list, such as
              `gpt2-small-res-jb:blocks.7.hook_resid_pre`.
        revision: branch, tag or commit of the repository.
        token: for private repositories.

    Returns:
        A codec of its own encoder. Its `lam` is not set; see `Autoencoder.adapt_penalty`.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no autoencoder.
        ImportError: it is one of SAELens, and that is not installed.
        ValueError: its architecture cannot be read, its files are damaged, or the scaling of a checkpoint is missing.
        OSError: the hub cannot be reached, or has no such autoencoder.
    """
    check_arguments(load_autoencoder, locals())
    path, name = Path(name).expanduser(), str(name)
    if path.is_dir():
        return _read(path, name)
    repository, _, inner = name.partition(":")
    if name.startswith((".", "/", "~")) or not (inner or repository.count("/") == 1):
        raise FileNotFoundError(f"sae is {name!r}, and there is no such folder: {_CURE}")
    if "/" not in repository:
        return saelens.read_release(repository, inner, name)
    return _read(_download(repository, inner, name, revision, token), name)


def _read(folder: Path, name: str) -> Autoencoder:
    if (folder / saelens.CONFIG).is_file():
        if (folder / saelens.WEIGHTS).is_file():
            return saelens.read_saelens(folder, name)
        if (folder / sparsify.WEIGHTS).is_file():
            return sparsify.read_sparsify(folder, name, _model_beside(folder))
    there = sorted(path.name for path in folder.iterdir())[:6]
    raise FileNotFoundError(
        f"sae is {name!r}, which holds {', '.join(there) or 'nothing'}, and no autoencoder: {_CURE}"
    )


def _model_beside(folder: Path) -> str | None:
    """The model that sparsify's configuration of a training run names, one folder up."""
    try:
        model = parse_json((folder.parent / "config.json").read_bytes()).get("model")
    except (OSError, ValueError):
        return None
    return model if isinstance(model, str) else None


def _download(repository: str, inner: str, name: str, revision: str | None, token: str | bool | None) -> Path:
    from huggingface_hub import snapshot_download

    prefix = f"{inner.strip('/')}/" if inner else ""
    files = [prefix + file for file in (saelens.CONFIG, saelens.WEIGHTS, SCALER, WHITENING, sparsify.WEIGHTS)]
    try:
        root = snapshot_download(repository, revision=revision, token=token, allow_patterns=[*files, "config.json"])
    except Exception as error:  # the hub's own errors are of many kinds, none of which names the cure
        reason = str(error).strip().partition("\n")[0]
        raise OSError(
            f"sae is {name!r}, and there is neither such a folder nor such a repository to be had from the hub "
            f"({type(error).__name__}: {reason}): {_CURE}"
        ) from error
    folder = Path(root) / prefix
    if not folder.is_dir():
        raise FileNotFoundError(f"sae is {name!r}, and the repository has no such folder: {_CURE}")
    return folder
