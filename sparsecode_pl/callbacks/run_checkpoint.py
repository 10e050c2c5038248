"""Checkpoints from which a run goes on as if it had not been interrupted."""

import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from sparsecode_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.checkpoint import read_checkpoint
from sparsecode_pl.utilities.files import PARTIAL, partial_path, publish

_NAME = re.compile(r"round=(\d+)-batch=(\d+)\.ckpt")
# SLURM announces a requeue by one of these.
_REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
# Batches after which processes ask each other for signals and clocks. They would wait for each other after every one.
_ASK = 10


class RunCheckpoint(Checkpoint):
    """Save checkpoints within rounds and at the end of each, and leave in order when the process is told to stop.

    A run that is resumed from one ends as the uninterrupted run does. Checkpoints are written atomically to
    `checkpoints/` in the log folder, under names such as `round=2-batch=40.ckpt`. Curves are flushed before each, so
    that they reach as far as the checkpoint does.

    On SIGTERM the batch is finished, a checkpoint is written, and the process leaves with exit code 143. While rows are
    scored there is nothing to save, and the process leaves at once; the last checkpoint is from before. Lightning's
    handler of the signal by which SLURM announces a requeue (SIGUSR1) runs between two batches, never within one. In a
    run on several processes, all of them stop after the same batch, one of the next ten, whichever of them got the
    signal.

    Args:
        every_n_steps: optimiser steps between two checkpoints within a round; None does not count them.
        every_n_minutes: minutes between two checkpoints within a round; None saves at the end of rounds alone.
        keep: checkpoints that are kept, >= 1; older ones are removed.

    Attributes:
        seconds_before: how long training had taken before the checkpoint that it was resumed from.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = 5.0, keep: int = 2) -> None:
        check_arguments(RunCheckpoint.__init__, locals())
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise ValueError(f"every_n_minutes is {every_n_minutes}: give a number above 0, or None")
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.keep = keep
        self._folder: Path | None = None
        self._began: float | None = None
        self._set_up = 0.0
        self.seconds_before = 0.0
        self._stop = False
        self._announced: set[int] = set()
        self._handlers: dict[int, Callable[..., Any]] = {}

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def paths(self) -> list[Path]:
        """The checkpoints of the run, the newest first."""
        return [] if self._folder is None else checkpoints_in(self._folder)

    @property
    def last_model_path(self) -> str:
        """The newest checkpoint; "" if there is none."""
        return str(next(iter(self.paths), ""))

    best_model_path = last_model_path  # which Lightning asks for

    def state_dict(self) -> dict[str, Any]:
        """How long training has taken, and when the run began."""
        seconds = self.seconds_before + (0 if self._began is None else time.monotonic() - self._began)
        return {"seconds": seconds, "set_up": self._set_up}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.seconds_before, self._set_up = state_dict["seconds"], state_dict["set_up"]

    # --- when to save ----------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder, and have the trainer write atomically and read without running code."""
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        self._began, self.seconds_before, self._set_up = None, 0.0, time.time()
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"
        rank_zero_only(_prepare)(self._folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and take over the signals."""
        self._began = time.monotonic()
        self._saved_step, self._saved_time = trainer.global_step, self._began
        self._stop, self._announced, self._handlers = trainer.received_sigterm, set(), {}
        self._agreed: list[bool] = []  # what processes have agreed on and not yet done
        if self._folder is None or threading.current_thread() is not threading.main_thread():
            return
        # Lightning puts back all handlers at the end. Its own for SIGTERM talks to the other processes at once, who
        # may be in the middle of something else.
        signal.signal(signal.SIGTERM, self._on_sigterm)
        for number in _REQUEUE:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._on_requeue)

    def _on_sigterm(self, number: int, frame: Any) -> None:
        self._stop = True

    def _on_requeue(self, number: int, frame: Any) -> None:
        self._announced.add(number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time, and leave, if the process was told to."""
        done = batch_idx + 1
        if self._folder is None or done % trainer.accumulate_grad_batches or done == trainer.num_training_batches:
            return  # gradients are waiting, or the round ends here, and it is saved when its rows have been scored
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = self.every_n_steps is not None and step - self._saved_step >= self.every_n_steps
        found = self._of_any(trainer, done, self._is_late(), self._stop, *self._is_announced())
        self._agreed = [one or other for one, other in zip_longest(self._agreed, found, fillvalue=False)]
        stop, announced = self._agreed[1], self._agreed[2:]
        if stop:
            trainer._logger_connector.update_train_step_metrics()  # which Lightning would do after this
        elif every > 1 and step % every == 0:
            return  # Lightning writes the curves of this batch after this, and a checkpoint must not be ahead of them
        if due or any(self._agreed):
            self._save(trainer, self._folder, done)
        self._requeue(trainer, announced)
        if stop:
            self._leave()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave, if the process was told to. A requeue goes on from the last checkpoint."""
        if self._folder is not None and trainer.state.fn == "fit":
            stop, *announced = self._of_any(trainer, batch_idx + 1, self._stop, *self._is_announced())
            self._requeue(trainer, announced)
            if stop:
                self._leave()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of a round."""
        if self._folder is None:
            return
        self._save(trainer, self._folder, trainer.fit_loop.batch_idx + 1)
        stop, *announced = self._of_any(trainer, 0, self._stop, *self._is_announced())
        self._requeue(trainer, announced)
        if stop and not trainer.should_stop:
            self._leave()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what was saved for a requeue: any later fit in the root folder would go on from there."""
        if self._folder is not None and trainer.is_global_zero:
            for path in _requeued(trainer, since=self._set_up):
                path.unlink(missing_ok=True)

    def _is_late(self) -> bool:
        """Whether it is time for a checkpoint, by the clock."""
        minutes = (time.monotonic() - self._saved_time) / 60
        return self.every_n_minutes is not None and minutes >= self.every_n_minutes

    def _is_announced(self) -> list[bool]:
        """Which signals have announced a requeue."""
        return [number in self._announced for number in _REQUEUE]

    @staticmethod
    def _of_any(trainer: Trainer, batches: int, *flags: bool) -> list[bool]:
        """Each flag, set if it is on any process. Processes ask each other only every so many batches."""
        if trainer.world_size == 1:
            return list(flags)
        if batches % _ASK:
            return [False for _ in flags]
        values = torch.tensor(flags, dtype=torch.int32, device=trainer.strategy.root_device)
        return [bool(flag) for flag in trainer.strategy.reduce(values, reduce_op="max").tolist()]

    # --- what is done ----------------------------------------------------------------------------------------------

    def _save(self, trainer: Trainer, folder: Path, batches: int) -> None:
        """Save the state after so many batches of the current round; rounds count from 1 in the name."""
        place = trainer.current_epoch + 1, batches
        for logger in trainer.loggers:
            rank_zero_only(logger.save)()
        trainer.save_checkpoint(folder / "round={}-batch={}.ckpt".format(*place), weights_only=False)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        if trainer.is_global_zero:
            later = [path for path in self.paths if (_place(path) or ()) > place]  # damaged ones
            for path in [*later, *self.paths[len(later) + self.keep :]]:
                path.unlink(missing_ok=True)

    def _requeue(self, trainer: Trainer, announced: list[bool]) -> None:
        """Have Lightning put the job into the queue again, and give it the last checkpoint to go on from."""
        self._agreed = []
        for number, is_announced in zip(_REQUEUE, announced, strict=True):
            if is_announced and number in self._handlers:
                self._announced.discard(number)
                self._handlers[number](number, None)
        if any(announced) and trainer.is_global_zero:
            for path in _requeued(trainer, since=self._set_up):
                # Lightning saves what it finds, and in the midst of scoring that cannot be resumed.
                path.unlink()
                if self.paths:
                    shutil.copyfile(self.paths[0], partial_path(path))
                    publish(path)

    def _leave(self) -> None:
        kept = f"{self.last_model_path} is safe" if self.paths else "there is no checkpoint yet"
        rank_zero_info(f"stopped by SIGTERM: {kept}")
        raise SystemExit(128 + signal.SIGTERM)


def _prepare(folder: Path) -> None:
    """Make the folder, and remove what a process that died has left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"*.ckpt{PARTIAL}"):
        path.unlink(missing_ok=True)


def _requeued(trainer: Trainer, since: float) -> list[Path]:
    """What Lightning has saved for a requeue since a time."""
    found = Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")
    return [path for path in found if path.stat().st_mtime >= since]


def checkpoints_in(folder: str | Path) -> list[Path]:
    """The checkpoints that `RunCheckpoint` wrote to a folder, the newest first."""
    places = {path: _place(path) for path in Path(folder).glob("*.ckpt")}
    return sorted((path for path, place in places.items() if place), key=lambda path: _place(path) or (), reverse=True)


def newest_run(root: str | Path) -> Path | None:
    """The folder of the fit that was begun last below a root folder, whether it has a checkpoint yet or not.

    Args:
        root: the trainer's `default_root_dir`.
    """
    runs = [path for path in Path(root).glob("lightning_logs/version_*") if path.name[8:].isdigit()]
    runs = sorted(runs, key=lambda path: int(path.name[8:]), reverse=True)
    return next((run for run in [*runs, Path(root)] if (run / "checkpoints").is_dir()), None)


def resumable(folder: str | Path) -> tuple[Path, int] | None:
    """The newest checkpoint that is whole, and the first step whose points in the curves come after it.

    Args:
        folder: the log folder of a fit.
    """
    for path in checkpoints_in(Path(folder) / "checkpoints"):
        try:
            return path, steps_logged(read_checkpoint(path))
        except ValueError as error:
            rank_zero_warn(f"{error}. The one before it is taken")
    return None


def steps_logged(checkpoint: Mapping[str, Any]) -> int:
    """The first step whose points in the curves come after a checkpoint.

    Raises:
        ValueError: it holds nothing but weights.
    """
    if "loops" not in checkpoint:
        raise ValueError("the checkpoint holds the weights alone, and no fit can be resumed from it: give another one")
    loops = checkpoint["loops"]["fit_loop"]
    batches = loops["epoch_loop.batch_progress"]["current"]
    # Within a round, Lightning saves before it counts the batch.
    return int(loops["epoch_loop.state_dict"]["_batches_that_stepped"] + batches["processed"] - batches["completed"])


def _place(path: Path) -> tuple[int, int] | None:
    """Round and batch of a checkpoint, by its name."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else (int(match[1]), int(match[2]))
