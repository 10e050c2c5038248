"""The fits of a measurement, one after another or in parallel processes."""

import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.measurement.fit import Record, TrainerFactory, measure_subject
from sparsecode_pl.measurement.subjects import Subject
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.quiet import quiet_lightning

Task = Callable[[], Record]


@dataclass(frozen=True)
class Failure:
    """What went wrong with a data set, in words, for an exception may not survive the way from another process.

    Attributes:
        message: the exception's type and message.
        trace: where it was raised.
    """

    message: str
    trace: str

    def __str__(self) -> str:
        return self.message


def default_jobs(accelerator: Any = "auto", devices: Any = "auto", num_nodes: int = 1) -> int:
    """How many data sets to fit at a time: one for each GPU, or for every two cores where there is none.

    Args:
        accelerator: the trainer's; "cpu" leaves GPUs aside.
        devices: the trainer's; where one fit is spread over several, there is one at a time.
        num_nodes: the trainer's.
    """
    if devices not in ("auto", 1, "1") or num_nodes > 1 or "LOCAL_RANK" in os.environ:
        return 1
    gpus = 0 if accelerator == "cpu" else len(_gpus())
    return gpus or max(1, cpu_count() // 2)


def run_jobs(
    subjects: list[Subject],
    folders: list[Path],
    trainer: TrainerFactory,
    seeds: int,
    explained_variance: float | None,
    exact: bool,
    jobs: int,
) -> Iterator[tuple[int, Record | Failure]]:
    """Fit the subjects, `jobs` at a time.

    Yields:
        Number of the subject and its record, or what went wrong, in the order in which they are done.
    """
    tasks = [
        partial(measure_subject, subject, folder, trainer, seeds, explained_variance, exact)
        for subject, folder in zip(subjects, folders, strict=True)
    ]
    jobs = min(jobs, len(tasks))
    if jobs == 1:
        for number, task in enumerate(tasks):
            rank_zero_info(f"[{number + 1}/{len(tasks)}] {subjects[number].title}")
            yield _attempt(task, number)
        return
    with Progress("fitting", len(tasks), unit="data sets") as progress:
        for outcome in _in_parallel(tasks, jobs):
            progress.advance(1)
            yield outcome


def _in_parallel(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, Record | Failure]]:
    threads = max(1, cpu_count() // jobs)
    gpus = _gpus()
    waiting, running = deque(range(len(tasks))), set[int]()

    def handed_out() -> Iterator[Any]:
        while waiting:
            number = waiting.popleft()
            running.add(number)
            yield delayed(_in_worker)(tasks[number], number, threads, gpus)

    with parallel_config(backend="loky", inner_max_num_threads=threads):
        # One task a call, and none handed out ahead, so that none waits behind a long one.
        work = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=jobs)
        while waiting:
            try:
                for number, outcome in work(handed_out()):
                    running.discard(number)
                    yield number, outcome
            except BrokenProcessPool:  # one that died took its neighbours along: which it was shows when each is alone
                alone = Parallel(n_jobs=2, batch_size=1)
                for number in sorted(running):
                    try:
                        yield from alone([delayed(_in_worker)(tasks[number], number, threads, gpus)])
                    except BrokenProcessPool as error:
                        message = f"its process died, perhaps for want of memory: lower jobs. {error}"
                        yield number, Failure(message, message)
                running.clear()


def _attempt(task: Task, number: int) -> tuple[int, Record | Failure]:
    try:
        return number, task()
    except Exception as error:  # whatever one data set fails of, the others go on
        return number, Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def _in_worker(task: Task, number: int, threads: int, gpus: list[str]) -> tuple[int, Record | Failure]:
    torch.set_num_threads(threads)
    if gpus and not torch.cuda.is_initialized():  # each worker keeps to one
        worker = int(current_process().name.rpartition("-")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[worker % len(gpus)]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    quiet_lightning()
    return _attempt(task, number)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
