"""Check that there is room for activations before any are computed."""

import shutil
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.data import total_memory


def check_room(what: str, size: int, store: Path | None) -> None:
    """Report how much room is needed, and check that it is there.

    Args:
        what: what needs the room.
        size: bytes.
        store: folder in which it is needed; None means memory.

    Raises:
        OSError: there is too little room.
    """
    what += f" take {_in_words(size)}"
    if store is None:
        there, where, cure = total_memory(torch.device("cpu")), "in memory", "a store on disk"
    else:
        folder = next(folder for folder in (store, *store.absolute().parents) if folder.exists())
        there, where = shutil.disk_usage(folder).free, f"in {store}"
        cure = "another folder as store, or store_dtype float16"
    rank_zero_info(f"{what} {where}, and {_in_words(there)} are there")
    if size > there:
        raise OSError(
            f"{what}, but there are {_in_words(there)} {where}: lower num_activations, or give fewer layers or {cure}"
        )


def _in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
