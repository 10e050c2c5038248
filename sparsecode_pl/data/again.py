"""Making data again from what its provenance says."""

from collections.abc import Mapping
from typing import Any

from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.data.source import Source
from sparsecode_pl.utilities import entry_points

#: The entry-point group of data.
DATA_GROUP = "sparsecode_pl.datamodules"


def data_again(provenance: Mapping[str, Any], **changed: Any) -> ActivationDataModule:
    """The data module that a provenance names, with the arguments that stand there.

    Only installed plugins are made: nothing is imported because a file names it.

    Args:
        provenance: `class_path` and `init_args`, see `Source.provenance`.
        changed: arguments that take the place of those, or are added to them.

    Raises:
        ValueError: it names no installed plugin, or the plugin refuses the arguments.
    """
    path, settings = provenance.get("class_path"), provenance.get("init_args", {})
    name = next(
        (
            name
            for name, entry in entry_points.available(DATA_GROUP).items()
            if path in (name, entry.value.replace(":", "."))
        ),
        None,
    )
    if name is None or not isinstance(settings, Mapping):
        raise ValueError(
            f"the data's class_path is {path!r}, which names no installed data plugin: give the data by --data"
        )
    cls = entry_points.load(DATA_GROUP, name, ActivationDataModule)
    try:
        return cls(**{**settings, **changed})
    except TypeError as error:
        raise ValueError(
            f"the data cannot be made again from its settings: {error}: give the data by --data"
        ) from error


def source_again(provenance: Mapping[str, Any], layer: str) -> Source | None:
    """The source of a layer that a provenance names; None if it names no installed plugin with such a layer.

    Args:
        provenance: `class_path` and `init_args`, see `Source.provenance`.
        layer: name of the layer.
    """
    revision = provenance.get("revision")  # the commit that a branch was at
    try:
        return data_again(provenance, store=None, **({} if revision is None else {"revision": revision})).layer(layer)
    except (ValueError, OSError):
        return None
