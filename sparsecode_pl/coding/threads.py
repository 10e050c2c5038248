"""Threads that share the rows of a problem between them.

Compiled code and matrix products release Python's lock, so plain threads are enough. A thread takes the next few rows
when it has finished the last ones. If another program delays a thread, only the rows of that thread are late, and
waiting threads sleep. OpenMP is worse on a busy machine: it assigns the rows in advance, and its threads spin while
they wait. This costs most if two OpenMP runtimes, such as PyTorch's and numba's, spin against each other. Therefore
numba's is not used here, and PyTorch's is kept from spinning; see `_let_openmp_sleep`.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, Event, Lock, Thread, get_ident
from typing import TypeVar

import torch

Result = TypeVar("Result")
# Maximum bytes of correlations that all threads together hold at a time.
CHUNK_BYTES = 16 * 2**20
# Maximum bytes of correlations that a thread holds at a time: more would not fit into the processor's cache.
_THREAD_BYTES = 2 * 2**20
# Number of chunks for few rows, so that no thread waits long for the last chunk.
_CHUNKS = 16
# Minimum rows per chunk, if memory allows: with fewer, the matrix product is slow and may round differently.
_LEAST_ROWS = 32
# If the user has set the first of these, or the second to another value than this package does, OpenMP's threads are
# not made to sleep.
SPIN_SETTINGS = {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": "1000"}
# The machine counts as busy if, several times in a row, work of this many seconds took this many times the seconds that
# processors spent on it. Once is not enough: the first work compiles.
_WATCHED, _BUSY, _TIMES = 0.4, 1.5, 2
# Elements per thread at which PyTorch uses several threads: twice its grain size.
_GRAIN = 2**16


def chunk_rows(num_rows: int, row_bytes: int) -> int:
    """How many rows a thread should take at a time, >= 1.

    Args:
        num_rows: number of rows.
        row_bytes: bytes of correlations per row.
    """
    chunk_bytes = min(_THREAD_BYTES, CHUNK_BYTES // torch.get_num_threads())
    return max(1, min(max(_LEAST_ROWS, num_rows // _CHUNKS), chunk_bytes // row_bytes))


def share_rows(num_rows: int, most: int, start_thread: Callable[[], Callable[[slice], Result]]) -> list[Result]:
    """Work on rows in chunks, with as many threads as PyTorch has here (`torch.get_num_threads`).

    In each of these threads PyTorch itself uses one thread. They do not inherit the caller's `torch.no_grad`, so their
    input must be detached. If PyTorch has one thread, the caller's thread does the work.

    Args:
        num_rows: number of rows, >= 0.
        most: maximum rows per chunk, >= 1.
        start_thread: called once in each thread; returns a function of a chunk of rows, which may keep buffers.

    Returns:
        The result of each chunk, in the order of the rows; chunks are of nearly equal size.

    Example:
        >>> share_rows(5, 2, lambda: lambda rows: (rows.start, rows.stop))
        [(0, 1), (1, 3), (3, 5)]
    """
    num_chunks = -(-num_rows // most)
    chunks = [slice(i * num_rows // num_chunks, (i + 1) * num_rows // num_chunks) for i in range(num_chunks)]
    left = iter(enumerate(chunks))
    lock, stopped = Lock(), False
    results: dict[int, Result] = {}

    def work() -> tuple[float, float]:
        """Seconds that this took, and seconds that the processor spent on it."""
        nonlocal stopped
        wall, processor = time.perf_counter(), time.thread_time()
        try:
            do = start_thread()
            while True:
                with lock:
                    number, rows = (None, None) if stopped else next(left, (None, None))
                if number is None or rows is None:
                    return time.perf_counter() - wall, time.thread_time() - processor
                results[number] = do(rows)
        except BaseException:
            stopped = True
            raise

    num_threads = torch.get_num_threads()
    if num_chunks == 0:
        return []
    if num_threads == 1:
        work()
    else:
        threads = _POOLS.of(num_threads)
        tasks = [threads.submit(work) for _ in range(min(num_threads, num_chunks))]
        try:
            for task in tasks:
                _POOLS.notice(*task.result(), num_threads)
        finally:  # also where the user interrupts
            stopped = True
            wait(tasks)
    return [results[number] for number in range(num_chunks)]


def beside_fork(call: Callable[[], Result]) -> Result:
    """Call a function, in a new thread if this one has been forked.

    The first thread of a forked child waits for ever once PyTorch shares work among OpenMP's threads, because the child
    does not have them. Other threads of the child start their own.
    """
    if get_ident() != _POOLS.forked:
        return call()
    with ThreadPoolExecutor(1) as other:
        return other.submit(call).result()


class _Pools:
    """Pools of threads by their number of threads, made at first use and kept.

    Attributes:
        forked: the first thread of this process, if it is a forked child.
    """

    def __init__(self) -> None:
        self.forked: int | None = None
        self.forget()

    def forget(self) -> None:
        """Start again without pools."""
        self._lock = Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._wall = self._processor = 0.0
        self._times_busy = 0
        self._may_spin = all(os.environ.get(name) in (None, ours) for name, ours in SPIN_SETTINGS.items())

    def after_fork(self) -> None:
        """Start again in a child, which has none of its parent's threads."""
        self.forked = get_ident()
        self.forget()

    def notice(self, wall: float, processor: float, num_threads: int) -> None:
        """Take in how long a thread worked; if threads have to wait for processors, let OpenMP's threads sleep.

        On an idle machine they may spin: it makes PyTorch's operations a tenth faster.

        Args:
            wall: seconds that the work took.
            processor: seconds that a processor spent on it.
            num_threads: PyTorch's threads here.
        """
        if not self._may_spin:
            return
        with self._lock:
            self._wall, self._processor = self._wall + wall, self._processor + processor
            if self._wall < _WATCHED:
                return
            self._times_busy = self._times_busy + 1 if self._wall > _BUSY * self._processor else 0
            self._wall = self._processor = 0.0
            if self._times_busy == _TIMES and self._may_spin:
                self._may_spin = False
                _let_openmp_sleep(num_threads)

    def of(self, num_threads: int) -> ThreadPoolExecutor:
        """The pool with this number of threads."""
        with self._lock:
            if num_threads not in self._pools:
                self._pools[num_threads] = _start_pool(num_threads)
            return self._pools[num_threads]


def _start_pool(num_threads: int) -> ThreadPoolExecutor:
    """Start threads in which PyTorch uses one thread.

    PyTorch's number of threads is a setting of each thread. But setting it also changes the default for threads that
    start later. This default has to be restored, and by another thread, because that changes its own number too.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="sparsecode")
    all_there = Barrier(num_threads)

    def start() -> None:
        all_there.wait()  # otherwise one thread might take all the starts
        torch.set_num_threads(1)
        torch.get_num_threads()  # otherwise PyTorch would set the number again at its first use in this thread

    with ThreadPoolExecutor(1) as other:
        usual = other.submit(torch.get_num_threads).result()
        try:
            for task in [pool.submit(start) for _ in range(num_threads)]:
                task.result()
        finally:
            other.submit(torch.set_num_threads, usual).result()
    return pool


def _let_openmp_sleep(num_threads: int) -> None:
    """Make PyTorch's OpenMP threads go to sleep at once when they wait, instead of spinning for milliseconds.

    They spin after each operation of PyTorch, on cores that our threads or other programs could use. That made a fit
    on a busy machine several times slower. The environment variable GOMP_SPINCOUNT could prevent it, but only before
    PyTorch is imported. GNU's OpenMP also stops spinning as soon as it has more threads than there are cores. So a
    Python thread starts a team of OpenMP threads here that brings their number above that of the cores, and then sleeps
    together with the team. Other OpenMP libraries are not affected.

    Args:
        num_threads: number of threads that PyTorch uses here.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    team = max(2, cores - num_threads + 2)
    ready = Event()

    def sleep() -> None:
        usual = torch.get_num_threads()
        try:
            torch.set_num_threads(team)
            torch.zeros(team * _GRAIN).add_(1)  # starts the team
            torch.set_num_threads(usual)  # also for threads that start from now on
        finally:
            ready.set()
        Event().wait()

    Thread(target=sleep, name="sparsecode-asleep", daemon=True).start()
    ready.wait()


_POOLS = _Pools()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOLS.after_fork)
