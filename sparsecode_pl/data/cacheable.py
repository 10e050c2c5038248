"""Data that can be kept on disk."""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Cacheable(Protocol):
    """Data that can fill an activation store, as `sparsecode cache` asks for."""

    def cache(self) -> Path:
        """Fill the store, and return its folder.

        Raises:
            ValueError: the data was not told which folder.
        """


def fill_store(data: object) -> Path:
    """Fill the store of data that has one.

    Returns:
        The folder of the store.

    Raises:
        ValueError: this data keeps no store, or was not told in which folder.
    """
    if not isinstance(data, Cacheable):
        raise ValueError(f"{type(data).__name__} keeps no store: give data that does, such as TransformerActivations")
    return data.cache()
