"""The activation store: random batches compared with Arrow, memory for a growing store, and the cost of checksums.

Rows have 384 float32 numbers and are in the page cache. Prints medians over repeats and ratios in one run, and writes
results/bench_store.json. It needs 5 GB of disk temporarily.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import datasets
import pyarrow as pa
import torch
from record import medians, write

from sparsecode_pl.data import Store, StoreWriter, generator, write_store

D = 384
ROWS = 131_072  # 0.2 GB
REPEATS = 30
BATCHES = (1024, 4096)
Gather = Callable[[torch.Tensor], torch.Tensor]


def blocks(rows: int) -> Iterator[torch.Tensor]:
    """Random rows, one block at a time."""
    for start in range(0, rows, 8192):
        yield torch.randn(min(8192, rows - start), D, generator=generator(start))


def arrow(folder: Path, format_: str) -> Gather:
    """The same rows as a memory-mapped Hugging Face data set."""
    if not folder.exists():
        flat = pa.array(torch.cat(list(blocks(ROWS))).numpy().reshape(-1))
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, D)})
        datasets.Dataset(table).save_to_disk(str(folder))
    data = datasets.load_from_disk(str(folder)).with_format(format_)
    return lambda index: torch.as_tensor(data[index.tolist()]["x"])


def each_in_turn(read: Gather, indices: list[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """A call that reads the next batch."""
    left = iter(indices)
    return lambda: read(next(left))


def compare(folder: Path) -> list[dict]:
    """Speed of random batches, in GB/s of float32."""
    shards = {1: ROWS, 16: ROWS // 16, 150: -(-ROWS // 150)}
    readers: dict[str, Gather] = {}
    for count, size in shards.items():
        path = write_store(folder / f"store{count}", blocks(ROWS), shard_rows=size)
        readers[f"store, {count} shards"] = Store(path).rows("activations").__getitem__
    path = write_store(folder / "half", blocks(ROWS), dtype="float16", shard_rows=ROWS // 16)
    readers["store, 16 shards, float16"] = Store(path).rows("activations").__getitem__
    datasets.disable_progress_bars()
    readers |= {f"datasets, {name}": arrow(folder / "arrow", name) for name in ("torch", "numpy")}
    everything = torch.cat(list(blocks(ROWS)))
    readers["tensor in memory"] = everything.__getitem__
    results = []
    for batch in BATCHES:
        indices = [torch.randperm(ROWS, generator=generator(repeat))[:batch] for repeat in range(REPEATS + 3)]
        for index in indices[:3]:  # these map the files
            for name, read in readers.items():
                assert torch.allclose(read(index), everything[index], atol=1e-2 if "float16" in name else 0)
        calls = {name: each_in_turn(read, indices[3:]) for name, read in readers.items()}
        speed = {name: batch * D * 4 / taken.wall / 1e9 for name, taken in medians(calls, REPEATS).items()}
        best = max(speed["datasets, torch"], speed["datasets, numpy"])
        results.append({"batch": batch, "gb_per_second": speed, "ratio": speed["store, 16 shards"] / best})
        print(f"batches of {batch}: " + ", ".join(f"{name} {value:.2f} GB/s" for name, value in speed.items()))
        print(f"    store of 16 shards over the faster Arrow reader: {results[-1]['ratio']:.0f}")
    return results


def anonymous_memory() -> float:
    """Megabytes of this process that do not belong to files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def read_all(path: str) -> None:
    """The peak memory of random batches over a whole store; runs in a separate process."""
    rows = Store(path).rows("activations")
    _ = rows[torch.arange(4096)]
    before = most = anonymous_memory()
    for repeat in range(-(-2 * len(rows) // 4096)):
        _ = rows[torch.randint(len(rows), (4096,), generator=generator(repeat))]
        most = max(most, anonymous_memory())
    print(json.dumps({"rows": len(rows), "peak_mb": most, "growth_mb": most - before}))


def memory(folder: Path) -> list[dict]:
    """Peak memory for a store and for one ten times as large."""
    results = []
    for times in (1, 10):
        path = write_store(folder / f"x{times}", blocks(times * ROWS), shard_rows=65536)
        command = [sys.executable, __file__, str(path)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))  # noqa: S603
        size = results[-1]["rows"] * D * 4 / 1e9
        print(
            f"store of {size:.1f} GB: peak anonymous memory {results[-1]['peak_mb']:.0f} MB, of which reading took "
            f"{results[-1]['growth_mb']:.1f} MB"
        )
    return results


def writing(folder: Path) -> dict:
    """Speed of writing seven layers with and without checksums."""
    layers = {str(layer): D for layer in range(7)}
    given = [dict.fromkeys(layers, rows) for rows in blocks(ROWS // 2)]
    size = 7 * (ROWS // 2) * D * 4 / 1e9

    target = folder / "written"

    def store() -> None:
        with StoreWriter(target, layers) as writer:
            for rows in given:
                writer.append(rows, {})
            writer.finish()

    def without() -> None:
        with mock.patch("sparsecode_pl.store.writer.checksum", return_value=""):
            store()

    calls = {"sha256": store, "no checksum": without}
    times = medians(calls, 7, prepare=lambda: shutil.rmtree(target, ignore_errors=True))
    speed = {name: size / taken.wall for name, taken in times.items()}
    cost = 1 / speed["sha256"] - 1 / speed["no checksum"]
    print("writing seven layers: " + ", ".join(f"{name} {value:.2f} GB/s" for name, value in speed.items()))
    print(f"    checksums take {cost:.2f} s per GB: {cost * 0.4:.0%} more time on a disk of 400 MB/s")
    return {"gb_per_second": speed, "checksum_seconds_per_gb": cost}


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        results = {"random_batches": compare(path), "memory": memory(path), "writing": writing(path)}
    write("bench_store", results, {"repeats": REPEATS}, packages=("torch", "numpy", "datasets"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read_all(sys.argv[1])
    else:
        main()
