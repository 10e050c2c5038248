"""The installed data and controls, found through the groups `sparsecode_pl.datamodules` and `sparsecode_pl.controls`.

A class that is both data and a control may stand in both groups. All data can be a control of other data; those that
stand in the second group are meant for it.
"""

from importlib.metadata import EntryPoint

from sparsecode_pl.data.again import CONTROL_GROUP, DATA_GROUP
from sparsecode_pl.data.control import Control
from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.utilities import entry_points

#: New names of plugins that were renamed.
_RENAMED = {"HookedTransformer": "TransformerActivations"}


def available_data() -> dict[str, EntryPoint]:
    """Name and entry point of all installed data, sorted by name; nothing is imported."""
    return entry_points.available(DATA_GROUP)


def available_controls() -> dict[str, EntryPoint]:
    """Name and entry point of all installed controls, sorted by name; nothing is imported."""
    return entry_points.available(CONTROL_GROUP)


def available_plugins() -> dict[str, EntryPoint]:
    """Name and entry point of all installed data and controls, sorted by name; nothing is imported."""
    return dict(sorted((available_controls() | available_data()).items()))


def load_plugin(name: str) -> type[Control]:
    """Import the class of one plugin, data or a control.

    Args:
        name: its name in the entry-point group, such as "SparseLinear".

    Raises:
        ValueError: no plugin has this name; the message suggests the nearest one.
        TypeError: the entry point is not an `ActivationDataModule`, or not a `Control`.
    """
    if name in available_data():
        return entry_points.load(DATA_GROUP, name, ActivationDataModule)
    if name in available_controls():
        return entry_points.load(CONTROL_GROUP, name, Control)
    raise ValueError(unknown_plugin(name))


def import_plugins() -> dict[str, type[Control]]:
    """Import all data and controls, so that their short names are known; one that fails is left out with a warning."""
    data = entry_points.load_all(DATA_GROUP, ActivationDataModule)
    controls = entry_points.load_all(CONTROL_GROUP, Control)
    return dict(sorted((controls | data).items()))


def plugin_kind(name: str) -> str:
    """What an installed plugin is: "data", "control" or "data, control"."""
    groups = {"data": available_data(), "control": available_controls()}
    return ", ".join(kind for kind, names in groups.items() if name in names)


def unknown_plugin(name: str) -> str:
    """The message for a name that no plugin has, or none of the kind that was asked for, or one that is broken."""
    if name in available_plugins():
        try:
            load_plugin(name)
        except (Exception, SystemExit) as error:  # another's package may fail in any way
            return f"plugin {name} cannot be imported: {type(error).__name__}: {error}"
    if name in _RENAMED:
        return f"{name} is now {_RENAMED[name]}: give the new name"
    if name in available_controls() and name not in available_data():
        return (
            f"{name} is a control: list it under controls of `sparsecode measure`. To fit it alone, give "
            f"--data ControlOf --data.control {name} --data.data NAME"
        )
    return entry_points.unknown(name, available_plugins())
