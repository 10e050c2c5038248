"""Codes on disk: safetensors shards that load back as one sparse matrix."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sparsecode_pl.coding.codes import codes_of_entries
from sparsecode_pl.utilities.arguments import check_tensor
from sparsecode_pl.utilities.files import write_file


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
    parts = {"crow": codes.crow_indices(), "col": codes.col_indices(), "values": codes.values(), "index": index}
    tensors = {name: part.cpu().contiguous() for name, part in parts.items()}
    write_file(Path(path), save(tensors, {"m": str(codes.shape[1])}))  # atomic: no reader sees half a shard


def load_codes(folder: str | Path) -> Tensor:
    """Load all shards of a folder, in the order of the data's rows.

    Args:
        folder: where `sparsecode predict` wrote them.

    Returns:
        Codes, sparse CSR (n, m).

    Raises:
        FileNotFoundError: the folder has no shards.
        ValueError: rows are missing or occur twice.
    """
    paths = sorted(Path(folder).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"folder {folder} has no .safetensors shards: give the folder `predict` wrote to")
    shards = []
    for path in paths:
        with safe_open(path, "pt") as file:
            num_atoms = int(file.metadata()["m"])
            shards.append({name: file.get_tensor(name) for name in ("crow", "col", "values", "index")})
    index = torch.cat([shard["index"] for shard in shards])
    n = len(index)
    if not torch.equal(index.sort().values, torch.arange(n)):
        raise ValueError(f"folder {folder}: its shards hold {n} rows, but not each of rows 0 to {n - 1}: predict again")
    row = torch.repeat_interleave(index, torch.cat([shard["crow"].diff() for shard in shards]))
    col, values = (torch.cat([shard[name] for shard in shards]) for name in ("col", "values"))
    return codes_of_entries(row, col, values, (n, num_atoms))
