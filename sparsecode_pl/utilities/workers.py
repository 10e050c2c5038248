"""Where the fits of a measurement are made: processes of this machine, or the workers of a cluster."""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import get_active_backend

# What tells libraries how many threads to use. Set before a process starts, they hold for all it loads.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Held while a fit is made in this process.
_BUSY = threading.Lock()


def make_workers(number: int) -> Executor:
    """The workers that the caller has chosen with `joblib.parallel_config`.

    Args:
        number: how many calls there will be at a time, at most.

    Returns:
        The workers of the Dask cluster with `backend="dask"`, and processes of this machine without a choice.

    Raises:
        ValueError: another backend is chosen.
    """
    check_backend()
    client = _dask_client()
    return Processes(number) if client is None else client.get_executor(pure=False)


def on_cluster() -> bool:
    """Whether the caller has chosen workers that may be on other machines."""
    return _dask_client() is not None


def check_backend() -> None:
    """Check that the joblib backend, if the caller has chosen one, can make fits.

    Raises:
        ValueError: it cannot.
    """
    name = type(get_active_backend()[0]).__name__
    if name not in ("LokyBackend", "DaskDistributedBackend"):
        raise ValueError(
            f"the joblib backend is a {name}: give parallel_config backend='loky', for processes of this machine, or "
            "backend='dask', for the workers of a Dask cluster"
        )


def _dask_client() -> Any:
    # joblib's own way to Dask waits for ever if a worker is lost, and its client does not.
    return getattr(get_active_backend()[0], "client", None)


class Processes(Executor):
    """Processes of this machine, each with its share of the cores and, if there are any, one GPU.

    One call at a time is made in each, and one that dies takes no other along. They end when this process does.

    Args:
        number: how many there are, >= 1; each starts when it is first needed.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._gpus = visible_gpus()
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._calls: dict[int, Future[Any]] = {}

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Make a call in a free process.

        Raises:
            RuntimeError: none is free.
        """
        for place in range(self._number):
            call = self._calls.get(place)
            if call is None or call.done():
                break
        else:
            raise RuntimeError(f"all {self._number} processes are at work: wait for one of them")
        try:
            made: Future[Any] = self._pool(place).submit(function, *args, **kwargs)
        except BrokenProcessPool:  # it has died
            del self._pools[place]
            made = self._pool(place).submit(function, *args, **kwargs)
        self._calls[place] = made
        return made

    def _pool(self, place: int) -> ProcessPoolExecutor:
        if place not in self._pools:
            settings = self._settings(place)
            self._pools[place] = ProcessPoolExecutor(1, env=settings, initializer=_end_with, initargs=(os.getpid(),))
        return self._pools[place]

    def _settings(self, place: int) -> dict[str, str]:
        """The environment of a process: known before it starts, so that no library can have read another."""
        settings = dict.fromkeys(_THREADS, str(max(1, cpu_count() // self._number)))
        if self._gpus:
            settings["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        return settings

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, at once if there is no wait."""
        for pool in self._pools.values():
            pool.shutdown(wait=wait, kill_workers=not wait)


def _end_with(parent: int) -> None:
    """End this process soon after its parent, whose successor may make the same fit anew."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def as_worker() -> Iterator[None]:
    """Make one fit in this process: alone, and with one GPU of those that the process sees.

    Raises:
        RuntimeError: another fit is being made in this process.
    """
    if not _BUSY.acquire(blocking=False):
        raise RuntimeError(
            "another fit is being made in this process: start workers of one thread each, with threads_per_worker=1 "
            "(LocalCluster), cores=1 (SLURMCluster) or --nthreads 1 (dask worker)"
        )
    try:
        _take_gpu()
        yield
    finally:
        _BUSY.release()


def _take_gpu() -> None:
    """Leave this process one GPU: one that no other worker of this user has on this machine, if there is one."""
    gpus = visible_gpus()
    if len(gpus) < 2 or torch.cuda.is_initialized():
        return
    taken = gpus[os.getpid() % len(gpus)]
    whose = f"{os.getuid()}-{os.environ.get('SLURM_JOB_ID', '')}"  # each job of SLURM may number its GPUs from 0
    for gpu in gpus:
        # The file stays open, because the lock is to last as long as this process.
        file = os.open(Path(tempfile.gettempdir(), f"sparsecode-{whose}-gpu-{gpu}"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        taken = gpu
        break
    os.environ["CUDA_VISIBLE_DEVICES"] = taken


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES.

    As CUDA does, it leaves out all entries from the first that names none, such as -1. An empty variable hides all.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    names = (name.strip() for name in visible.split(","))
    return list(takewhile(lambda name: name and not name.startswith("-"), names))
