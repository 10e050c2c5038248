"""Codes on disk: safetensors shards that load back as one sparse matrix."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparsecode_pl.coding.codes import codes_of_entries
from sparsecode_pl.utilities.arguments import check_tensor
from sparsecode_pl.utilities.files import checksum_of, write_file

_PARTS = ("crow", "col", "values", "index")


def save_codes(path: str | Path, codes: Tensor, index: Tensor) -> None:
    """Write one shard: the codes of some rows.

    Args:
        path: file to write, ending in ".safetensors".
        codes: sparse CSR, (k, m).
        index: which rows of the data these are, (k,) int64.

    Raises:
        ValueError: codes are not sparse CSR, or there is not a row number for each of their rows.
        OSError: the file cannot be written.
    """
    check_tensor(codes, "codes", sparse=True, floating=True)
    check_tensor(index, "index")
    if codes.layout != torch.sparse_csr or index.shape != codes.shape[:1] or index.dtype != torch.int64:
        raise ValueError(
            f"codes are {codes.layout} of shape {tuple(codes.shape)}, and index is {index.dtype} of shape "
            f"{tuple(index.shape)}: give sparse CSR (k, m) and int64 (k,)"
        )
    parts = codes.crow_indices(), codes.col_indices(), codes.values(), index
    tensors = {name: part.cpu().contiguous() for name, part in zip(_PARTS, parts, strict=True)}
    facts = {"m": str(codes.shape[1]), "checksum": _checksum(tensors.values())}
    write_file(Path(path), save(tensors, facts))  # atomic: no reader sees half a shard


def load_codes(folder: str | Path) -> Tensor:
    """Load all shards of a folder, in the order of the data's rows.

    Args:
        folder: where `sparsecode predict` wrote them.

    Returns:
        Codes, sparse CSR (n, m).

    Raises:
        FileNotFoundError: the folder has no shards.
        ValueError: a shard is damaged, shards are of different dictionaries, or rows are missing or occur twice.
    """
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"folder {folder} has no .safetensors shards: give the folder `predict` wrote to")
    shards, widths = zip(*map(_read_shard, paths), strict=True)
    if len(set(widths)) > 1:
        numbers = " and ".join(map(str, sorted(set(widths))))
        raise ValueError(f"folder {folder}: its shards are of {numbers} atoms: keep those of one prediction")
    if len({shard["values"].dtype for shard in shards}) > 1:
        raise ValueError(f"folder {folder}: its shards have values of several dtypes: keep those of one prediction")
    index = torch.cat([shard["index"] for shard in shards])
    n = len(index)
    if not torch.equal(index.sort().values, torch.arange(n)):
        raise ValueError(f"folder {folder}: its shards hold {n} rows, but not each of rows 0 to {n - 1}: predict again")
    row = torch.repeat_interleave(index, torch.cat([shard["crow"].diff() for shard in shards]))
    col, values = (torch.cat([shard[name] for shard in shards]) for name in ("col", "values"))
    return codes_of_entries(row, col, values, (n, widths[0]))


def _read_shard(path: Path) -> tuple[dict[str, Tensor], int]:
    """The parts of a shard, and its number of atoms."""
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            num_atoms = int(facts["m"])
            shard = {name: file.get_tensor(name) for name in _PARTS}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a shard of codes or is damaged ({error}): predict again") from error
    crow, col, values, index = shard.values()
    integers = all(part.dtype == torch.int64 and part.ndim == 1 for part in (crow, col, index))
    if not (
        facts.get("checksum") in (None, _checksum(shard.values()))  # earlier versions wrote none
        and integers
        and values.is_floating_point()
        and values.shape == col.shape
        and len(crow) == len(index) + 1
        and crow[0] == 0
        and crow[-1] == len(col)
        and bool((crow.diff() >= 0).all())
        and bool(((col >= 0) & (col < num_atoms)).all())
        and bool((torch.isfinite(values) & (values >= 0)).all())
    ):
        raise ValueError(f"{path} is damaged, its parts are not what was written: predict again")
    return shard, num_atoms


def _checksum(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of contiguous CPU tensors, one after the other."""
    return checksum_of(*(tensor.view(torch.uint8).numpy().data for tensor in tensors))
