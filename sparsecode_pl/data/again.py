"""Making data and controls again from what a file says of them."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from sparsecode_pl.data.control import Control
from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.data.source import Source
from sparsecode_pl.utilities import entry_points

#: The entry-point groups of data and of controls.
DATA_GROUP, CONTROL_GROUP = "sparsecode_pl.datamodules", "sparsecode_pl.controls"

# Class paths that older files have.
_OLDER = {"sparsecode_transformer.HookedTransformer": "TransformerActivations"}


def plugin_again(settings: Mapping[str, Any], **changed: Any) -> Control:
    """The data or control that settings name, with the arguments that stand there.

    Only installed plugins are made, and no code of a model's repository is run: nothing happens because a file names
    it.

    Args:
        settings: `class_path` and `init_args`, as in a configuration; arguments may be such settings too.
        changed: arguments that take the place of those, or are added to them.

    Raises:
        ValueError: it names no installed plugin, or the plugin refuses the arguments.
    """
    path = settings.get("class_path")
    found = _find(path) if isinstance(path, str) else None
    given = {**_mapping(settings, "init_args"), **_mapping(settings, "dict_kwargs")}
    if found is None:
        raise ValueError(f"the class_path {path!r} names no installed data or control: give the data by --data")
    if given.get("trust_remote_code"):
        given["trust_remote_code"] = False
    arguments = {name: _again(value) for name, value in given.items()} | changed
    cls = entry_points.load(*found, Control)
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"{path} cannot be made again from its settings: {error}: give the data by --data") from error


def _find(path: str) -> tuple[str, str] | None:
    """The group and the name of the plugin of a class path, or of a name."""
    path = _OLDER.get(path, path)
    for group in (DATA_GROUP, CONTROL_GROUP):
        for name, entry in entry_points.available(group).items():
            if path in (name, entry.value.replace(":", ".")):
                return group, name
    return None


def _mapping(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = settings.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}, not a mapping: give the data by --data")
    return dict(value)


def _again(value: Any) -> Any:
    """An argument, in which settings of plugins are made."""
    if isinstance(value, Mapping) and "class_path" in value:
        return plugin_again(value)
    return [_again(each) for each in value] if isinstance(value, list) else value


def data_again(provenance: Mapping[str, Any], **changed: Any) -> ActivationDataModule:
    """The data module that a provenance names.

    Args:
        provenance: `class_path` and `init_args`, see `Source.provenance`.
        changed: arguments that take the place of those, or are added to them.

    Raises:
        ValueError: it names no installed data, or the plugin refuses the arguments.
    """
    kept = {name: value for name, value in _mapping(provenance, "init_args").items() if name not in ("store", "device")}
    data = plugin_again({"class_path": provenance.get("class_path"), "init_args": kept}, **changed)
    if not isinstance(data, ActivationDataModule):
        raise ValueError(f"the class_path {provenance.get('class_path')!r} names a control: give the data by --data")
    return data


def source_again(provenance: Mapping[str, Any], layer: str) -> Source | None:
    """The source of a layer that a provenance names; None if it names no plugin, and with a warning if that fails.

    Args:
        provenance: `class_path` and `init_args`, see `Source.provenance`.
        layer: name of the layer.
    """
    if not isinstance(provenance.get("class_path"), str):
        return None
    revision = provenance.get("revision")  # the commit that a branch was at
    try:
        return data_again(provenance, **({} if revision is None else {"revision": revision})).layer(layer)
    except (ValueError, OSError) as error:
        rank_zero_warn(f"layer {layer}: its model and text cannot be found again, so tokens stay numbers: {error}")
        return None
