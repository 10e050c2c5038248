"""The fits of a measurement, one after another or in parallel processes."""

import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import current_process
from typing import Any

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.measurement.record import Fit
from sparsecode_pl.utilities.progress import Progress, duration, shows_progress, titled
from sparsecode_pl.utilities.quiet import quiet_fits
from sparsecode_pl.utilities.ranks import is_shared


@dataclass(frozen=True)
class Job:
    """A fit to make.

    Attributes:
        title: its name.
        run: makes the fit.
    """

    title: str
    run: Callable[[], Fit]


@dataclass(frozen=True)
class Failure:
    """The error of a fit, as text, because an exception may not survive the transfer from another process.

    Attributes:
        message: the exception's type and message.
        trace: where it was raised.
    """

    message: str
    trace: str

    def __str__(self) -> str:
        return self.message


def default_jobs(accelerator: Any = "auto", devices: Any = "auto", num_nodes: int = 1) -> int:
    """How many fits to make at a time: one for each GPU, or one for every two cores if there is no GPU.

    Args:
        accelerator: that of the trainer; "cpu" ignores GPUs.
        devices: that of the trainer; if one fit uses several devices, fits are made one at a time.
        num_nodes: that of the trainer; if one fit uses several nodes, fits are made one at a time.
    """
    if devices not in ("auto", 1, "1") or num_nodes > 1 or "LOCAL_RANK" in os.environ:
        return 1
    gpus = 0 if accelerator == "cpu" else len(_gpus())
    return gpus or max(1, cpu_count() // 2)


def run_jobs(jobs: Sequence[Job], at_a_time: int, done: int = 0) -> Iterator[tuple[int, Fit | Failure]]:
    """Make fits, several at a time, and show the progress.

    Args:
        jobs: the fits to make.
        at_a_time: how many to make at a time, >= 1.
        done: fits of the measurement that were made before.

    Yields:
        Number of the job and its fit or failure, in order of completion.
    """
    at_a_time = min(at_a_time, len(jobs))
    with Progress("fits", done + len(jobs), done=done, rate=False) as progress, quiet_fits():
        outcomes = _one_by_one(jobs) if at_a_time <= 1 else _in_parallel(jobs, at_a_time)
        for finished, (number, outcome) in enumerate(outcomes, start=done + 1):
            progress.advance(1)
            if not shows_progress():
                _tell(jobs[number].title, outcome, finished, done + len(jobs))
            yield number, outcome


def _tell(title: str, outcome: Fit | Failure, finished: int, total: int) -> None:
    """Log a line for a fit, where no progress bar shows."""
    end = (
        "failed"
        if isinstance(outcome, Failure) or outcome.error is not None
        else duration(outcome.scores.get("seconds", 0))
    )
    rank_zero_info(f"[{finished}/{total}] {title}: {end}")


def _one_by_one(jobs: Sequence[Job]) -> Iterator[tuple[int, Fit | Failure]]:
    for number, job in enumerate(jobs):
        with titled(job.title):
            outcome = _attempt(job, number)
        yield outcome


def _in_parallel(jobs: Sequence[Job], at_a_time: int) -> Iterator[tuple[int, Fit | Failure]]:
    threads = max(1, cpu_count() // at_a_time)
    gpus = _gpus()
    waiting, running = deque(range(len(jobs))), set[int]()

    def handed_out() -> Iterator[Any]:
        while waiting:
            number = waiting.popleft()
            running.add(number)
            yield delayed(_in_worker)(jobs[number], number, threads, gpus)

    with parallel_config(backend="loky", inner_max_num_threads=threads):
        # One fit per call and none handed out ahead, so that no fit waits behind a long one.
        work = Parallel(n_jobs=at_a_time, return_as="generator_unordered", batch_size=1, pre_dispatch=at_a_time)
        while waiting:
            try:
                for number, outcome in work(handed_out()):
                    running.discard(number)
                    yield number, outcome
            except BrokenProcessPool:  # one that dies stops the others too: running each alone shows which one it was
                alone = Parallel(n_jobs=2, batch_size=1)
                for number in sorted(running):
                    try:
                        yield from alone([delayed(_in_worker)(jobs[number], number, threads, gpus)])
                    except BrokenProcessPool as error:
                        message = f"its process died, perhaps because memory ran out: lower jobs. {error}"
                        yield number, Failure(message, message)
                running.clear()


def _attempt(job: Job, number: int) -> tuple[int, Fit | Failure]:
    try:
        return number, job.run()
    except Exception as error:  # the other fits go on, whatever the error
        if is_shared():
            raise  # the other processes wait for this one, which must not begin another fit; the run can be resumed
        return number, Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def _in_worker(job: Job, number: int, threads: int, gpus: list[str]) -> tuple[int, Fit | Failure]:
    torch.set_num_threads(threads)
    if gpus and not torch.cuda.is_initialized():  # each worker uses one GPU
        worker = int(current_process().name.rpartition("-")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[worker % len(gpus)]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with quiet_fits():
        return _attempt(job, number)


def _gpus() -> list[str]:
    """The GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
