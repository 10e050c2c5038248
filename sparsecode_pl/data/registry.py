"""The installed plugins, found through the entry-point group `sparsecode_pl.datamodules`."""

import difflib
from importlib.metadata import EntryPoint, entry_points

from lightning.pytorch.utilities import rank_zero_warn

from sparsecode_pl.data.base import ActivationDataModule

GROUP = "sparsecode_pl.datamodules"


def available_plugins() -> dict[str, EntryPoint]:
    """Name and entry point of every installed plugin, sorted by name; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def load_plugin(name: str) -> type[ActivationDataModule]:
    """Import the class of one plugin.

    Args:
        name: its name in the entry-point group, such as "SparseLinear".

    Raises:
        ValueError: no plugin has this name; the nearest is suggested.
        TypeError: the entry point is not an `ActivationDataModule`.
    """
    plugins = available_plugins()
    if name not in plugins:
        raise ValueError(unknown_plugin(name))
    cls = plugins[name].load()
    if not (isinstance(cls, type) and issubclass(cls, ActivationDataModule)):
        raise TypeError(f"plugin {name} ({plugins[name].value}) is {cls!r}: make it a subclass of ActivationDataModule")
    return cls


def import_plugins() -> dict[str, type[ActivationDataModule]]:
    """Import all plugins, so that their short names are known; one that fails is left out with a warning."""
    loaded = {}
    for name in available_plugins():
        try:
            loaded[name] = load_plugin(name)
        except Exception as error:  # a third party's package may fail in any way, and must not take the others along
            rank_zero_warn(f"plugin {name} is left out, it cannot be imported: {type(error).__name__}: {error}")
    return loaded


def unknown_plugin(name: str) -> str:
    """The message for a name that no plugin has."""
    names = list(available_plugins())
    lowered = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    hint = f"did you mean {lowered[near[0]]}? " if near else ""
    return f"no plugin is called {name!r}: {hint}Installed: {', '.join(names) or 'none'}"
