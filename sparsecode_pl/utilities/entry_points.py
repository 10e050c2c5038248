"""Plugins of installed packages, found through entry-point groups."""

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_warn

T = TypeVar("T")


def available(group: str) -> dict[str, EntryPoint]:
    """Name and entry point of every installed plugin of a group, sorted by name; nothing is imported."""
    return {
        entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value))
    }


def load(group: str, name: str, base: type[T]) -> type[T]:
    """Import the class of one plugin.

    Args:
        group: the entry-point group.
        name: the plugin's name in it.
        base: the class that it must be a subclass of.

    Raises:
        ValueError: no plugin has this name, and the message suggests the nearest one; or several have it.
        TypeError: the entry point is not a subclass of `base`.
    """
    plugins = available(group)
    if name not in plugins:
        raise ValueError(unknown(name, plugins))
    values = sorted({entry.value for entry in entry_points(group=group) if entry.name == name})
    if len(values) > 1:
        raise ValueError(f"plugin {name} is named by several packages ({', '.join(values)}): uninstall all but one")
    cls = plugins[name].load()
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise TypeError(f"plugin {name} ({plugins[name].value}) is {cls!r}: make it a subclass of {base.__name__}")
    return cls


def load_all(group: str, base: type[T]) -> dict[str, type[T]]:
    """Import all plugins of a group; one that cannot be imported is left out with a warning."""
    loaded = {}
    for name in available(group):
        try:
            loaded[name] = load(group, name, base)
        except (Exception, SystemExit) as error:  # another's package may fail in any way, and must not break the others
            rank_zero_warn(f"plugin {name} is left out because it cannot be imported: {type(error).__name__}: {error}")
    return loaded


def unknown(name: str, names: Iterable[str]) -> str:
    """The error message for a name that no plugin has.

    Args:
        name: the unknown name.
        names: the names of the installed plugins.

    Example:
        >>> unknown("gausian", ["Gaussian", "SparseLinear"])
        "no plugin is called 'gausian': did you mean Gaussian? Installed: Gaussian, SparseLinear"
    """
    names = list(names)
    lowered = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    hint = f"did you mean {lowered[near[0]]}? " if near else ""
    return f"no plugin is called {name!r}: {hint}Installed: {', '.join(names) or 'none'}"
