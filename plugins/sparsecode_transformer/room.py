"""Whether there is room for activations, said before any are made."""

import os
import shutil
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info


def check_room(what: str, size: int, store: Path | None) -> None:
    """Say how much room is needed, and check that it is there.

    Args:
        what: needs it.
        size: bytes.
        store: folder that it is for; memory if None.

    Raises:
        OSError: there is too little.
    """
    what += f" take {_in_words(size)}"
    if store is None:
        there, where, cure = _total_memory(), "in memory", "a store on disk"
    else:
        folder = next(folder for folder in (store, *store.absolute().parents) if folder.exists())
        there, where = shutil.disk_usage(folder).free, f"in {store}"
        cure = "another folder as store, or store_dtype float16"
    rank_zero_info(f"{what} {where}, of {_in_words(there)} there")
    if size > there:
        raise OSError(
            f"{what}, but there are {_in_words(there)} {where}: lower num_activations, give fewer layers, or {cure}"
        )


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
