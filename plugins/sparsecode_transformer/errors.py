"""Errors of transformers when a model cannot be read, in one line that names the cure."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def config_errors(model: str, revision: str | None, cure: str = "") -> Iterator[None]:
    """Explain errors while the configuration of a model is read and the empty model is built.

    Args:
        model: a folder, or a name on the hub.
        revision: branch, tag or commit on the hub.
        cure: what else the user can do if the model needs code of its repository.

    Raises:
        OSError: the model cannot be reached.
        ValueError: transformers does not have its architecture.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"model_name_or_path is {model!r} (revision {revision or 'main'}), and its config.json "
            "cannot be read. If it is a folder, that file is damaged; if not, the Hugging Face hub has no such "
            "model or cannot be reached: check the spelling, the connection and HF_HUB_OFFLINE, and log in with "
            f"`hf auth login` if the model is not public. {first_line(error)}"
        ) from error
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"model_name_or_path is {model!r}, and its config.json describes no model that transformers can "
            f"build without running code from its repository, which is {'not' if cure else 'never'} done: give a "
            f"model whose architecture the installed transformers has{cure}. {first_line(error)}"
        ) from error


@contextmanager
def weight_errors(model: str) -> Iterator[None]:
    """Explain errors while the weights of a model, a folder or a name on the hub, are read.

    Raises:
        OSError: they cannot be reached, or their files are damaged.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"model_name_or_path is {model!r}, and its weights cannot be read: give a folder or revision with "
            f"model.safetensors or pytorch_model.bin. {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
