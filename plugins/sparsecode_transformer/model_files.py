"""The files of a model, in a folder or on the hub."""


def model_file(model: str, name: str, revision: str | None = None) -> str | None:
    """The path of one of a model's files, downloaded if need be; None if the model has no such file.

    Args:
        model: a folder, or a name on the hub.
        name: of the file, such as "config.json".
        revision: branch, tag or commit on the hub.
    """
    from transformers.utils import cached_file

    try:
        return cached_file(model, name, revision=revision)
    except OSError:
        return None
