"""Activations on disk: written once, read memory-mapped, open to other programs.

A store is a folder:

- `manifest.json`: what it holds, the sizes and checksums of its files, and whether it is complete;
- `layers/NAME/00000.safetensors`, ...: a tensor "activations", (rows, width), for each layer and shard;
- `columns/00000.safetensors`, ...: for each shard, one int32 tensor (rows,) for each column, such as a token's number.

All layers and columns have the same rows in the same order, and are divided into the same shards. `write_store` writes
one from any arrays, `StoreWriter` block by block. `Store` reads it, and `ActivationStore` in `sparsecode_pl.data` is
the data module over it.

Why safetensors and not Arrow: random batches are read several times faster (`benchmarks/bench_store.py`), bfloat16 is
stored as it is, and many languages have a reader.
"""

from sparsecode_pl.store.arrays import write_store
from sparsecode_pl.store.lock import StoreBusyError
from sparsecode_pl.store.memory import MemoryWriter
from sparsecode_pl.store.reader import Store, StoredRows
from sparsecode_pl.store.writer import StoreWriter

__all__ = ["MemoryWriter", "Store", "StoreBusyError", "StoreWriter", "StoredRows", "write_store"]
