"""The fits of a measurement: one after another, in parallel processes, or on the machines of a cluster."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from joblib import cpu_count
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.measurement.record import Fit
from sparsecode_pl.utilities.parcels import Parcels, open_parcel, remove_parcels
from sparsecode_pl.utilities.progress import Progress, duration, shows_progress, titled
from sparsecode_pl.utilities.quiet import quiet_fits
from sparsecode_pl.utilities.ranks import is_shared
from sparsecode_pl.utilities.workers import as_worker, make_workers, on_cluster, visible_gpus


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
    gpus = 0 if accelerator == "cpu" else len(visible_gpus())
    return gpus or max(1, cpu_count() // 2)


def run_jobs(jobs: Sequence[Job], at_a_time: int, folder: Path, done: int = 0) -> Iterator[tuple[int, Fit | Failure]]:
    """Make fits, several at a time, and show the progress.

    Several at a time are made in processes of this machine, or by the workers of a Dask cluster if the caller has
    chosen one with `joblib.parallel_config(backend="dask")`. A fit whose process dies is lost, and no other. But a
    process of this machine that is told to stop (SIGTERM, or Ctrl-C) stops all of them, as if this one had been told.

    Args:
        jobs: the fits to make.
        at_a_time: how many to make at a time, >= 1.
        folder: an existing folder for what the processes are given; the workers of a cluster must see it. What a
            killed run has left of that is removed first.
        done: fits of the measurement that were made before.

    Yields:
        Number of the job and its fit or failure, in order of completion.

    Raises:
        KeyboardInterrupt: this process or a worker was interrupted.
        SystemExit: this process or a worker was told to stop.
    """
    remove_parcels(folder)
    at_a_time = min(at_a_time, len(jobs))
    with Progress("fits", done + len(jobs), done=done, rate=False) as progress, quiet_fits():
        here = at_a_time <= 1 and not on_cluster()
        outcomes = _one_by_one(jobs) if here else _in_parallel(jobs, at_a_time, folder)
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
            outcome = _attempt(job.run)
        yield number, outcome


def _in_parallel(jobs: Sequence[Job], at_a_time: int, folder: Path) -> Iterator[tuple[int, Fit | Failure]]:
    waiting = iter(enumerate(jobs))
    running: dict[Future[Fit | Failure], int] = {}
    workers = make_workers(at_a_time)
    with Parcels(folder) as parcels:
        try:
            while True:
                # None is handed out ahead, so that no fit waits behind a long one.
                for number, job in islice(waiting, at_a_time - len(running)):
                    running[workers.submit(_in_worker, parcels.pack(job.run))] = number
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), _outcome(future)
        finally:
            workers.shutdown(wait=not running)  # if some are running, this has been interrupted


def _outcome(future: Future[Fit | Failure]) -> Fit | Failure:
    error = CancelledError("the cluster is gone") if future.cancelled() else future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error  # the worker was told to stop, and has not died; a fit in this process ends the run likewise
    message = (
        f"its process was lost ({type(error).__name__}), perhaps because memory ran out: lower jobs, or give each more "
        f"memory. {error}"
    )
    return Failure(message, message)


def _attempt(run: Callable[[], Fit]) -> Fit | Failure:
    try:
        return run()
    except Exception as error:  # the other fits go on, whatever the error
        if is_shared():
            raise  # the other processes wait for this one, which must not begin another fit; the run can be resumed
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def _in_worker(parcel: Path) -> Fit | Failure:
    def run() -> Fit:
        with as_worker(), quiet_fits():
            fit: Fit = open_parcel(parcel)()
            return fit

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return _attempt(run)
