"""Threads that share the rows of a problem between them.

Compiled code and matrix products release Python's lock, so plain threads serve. A thread takes the next few rows when
it has finished the last ones. A thread that another program holds up therefore delays nothing but its own rows, and
threads that wait are asleep. OpenMP does worse on a busy machine: it deals out the rows in advance, and its threads
spin while they wait. That costs most where two OpenMP runtimes, such as PyTorch's and numba's, spin against each other.
Numba's is not used here, and PyTorch's is kept from spinning; see `_let_openmp_sleep`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, Event, Lock, Thread, get_ident
from typing import TypeVar

import torch

Result = TypeVar("Result")
# Bytes of correlations that all threads together hold at a time, at most.
CHUNK_BYTES = 16 * 2**20
# Bytes of correlations that a thread holds at a time, at most: more would leave the processor's cache.
_THREAD_BYTES = 2 * 2**20
# Chunks that rows are divided into where they are few, so that no thread waits long for the last one.
_CHUNKS = 16
# Rows a chunk at least, where memory allows: with fewer, the matrix product is slow, and may round in another way.
_LEAST_ROWS = 32
# Where the user has set one of these, how OpenMP's threads wait is left alone.
SPIN_SETTINGS = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
# Numbers for each thread that make PyTorch use several: twice its own grain.
_GRAIN = 2**16


def chunk_rows(num_rows: int, row_bytes: int) -> int:
    """How many rows a thread should take at a time, >= 1.

    Args:
        num_rows: how many rows there are.
        row_bytes: bytes of correlations of a row.
    """
    chunk_bytes = min(_THREAD_BYTES, CHUNK_BYTES // torch.get_num_threads())
    return max(1, min(max(_LEAST_ROWS, num_rows // _CHUNKS), chunk_bytes // row_bytes))


def share_rows(num_rows: int, most: int, start_thread: Callable[[], Callable[[slice], Result]]) -> list[Result]:
    """Work on rows in chunks, with as many threads as PyTorch has here (`torch.get_num_threads`).

    In these threads PyTorch itself works with one thread. They record no gradient if their input is detached. How the
    rows fall into chunks does not depend on the number of threads, and so neither do results, to the last digit.

    Args:
        num_rows: how many rows there are, >= 0.
        most: rows a chunk at most, >= 1.
        start_thread: called once in each thread; returns what works on a chunk of rows there, and may keep buffers.

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

    def work() -> None:
        nonlocal stopped
        try:
            do = start_thread()
            while True:
                with lock:
                    number, rows = (None, None) if stopped else next(left, (None, None))
                if number is None or rows is None:
                    return
                results[number] = do(rows)
        except BaseException:
            stopped = True
            raise

    num_threads = min(torch.get_num_threads(), num_chunks)
    if num_threads == 0:
        return []
    threads = _POOLS.of(torch.get_num_threads())
    tasks = [threads.submit(work) for _ in range(num_threads)]
    try:
        for task in tasks:
            task.result()
    finally:  # also where the user interrupts
        stopped = True
        wait(tasks)
    return [results[number] for number in range(num_chunks)]


def beside_fork(call: Callable[[], Result]) -> Result:
    """Call a function, in a new thread if this one has been forked.

    In a forked child, the thread that it began with waits for ever once PyTorch shares work among OpenMP's threads,
    which the child has not got. Other threads of the child get threads of their own.
    """
    if get_ident() != _POOLS.forked:
        return call()
    with ThreadPoolExecutor(1) as other:
        return other.submit(call).result()


class _Pools:
    """Pools of threads, made when they are first asked for and kept, by their number of threads.

    Attributes:
        forked: the thread that this process began with, if it is a forked child.
    """

    def __init__(self) -> None:
        self.forked: int | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._lock = Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def after_fork(self) -> None:
        """Begin anew in a child, which has none of its parent's threads."""
        self.forked = get_ident()
        self.forget()

    def of(self, num_threads: int) -> ThreadPoolExecutor:
        """The pool of so many threads."""
        with self._lock:
            if num_threads not in self._pools:
                if not self._pools and num_threads > 1 and not SPIN_SETTINGS & os.environ.keys():
                    _let_openmp_sleep(num_threads)
                self._pools[num_threads] = _start_pool(num_threads)
            return self._pools[num_threads]


def _start_pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads in each of which PyTorch works with one thread.

    PyTorch's number of threads belongs to a thread. But setting it also sets the number that threads begin with from
    then on, so that this has to be put back, and by a thread that does not mind its own number.
    """
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="sparsecode")
    all_there = Barrier(num_threads)

    def start() -> None:
        all_there.wait()  # else one thread might take all the starts
        torch.set_num_threads(1)
        torch.get_num_threads()  # without it, PyTorch would set the number again at its first use in this thread

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
    on a busy machine several times slower. The environment variable GOMP_SPINCOUNT could forbid it, but only before
    PyTorch is imported. GNU's OpenMP also stops spinning as soon as it has more threads than there are cores. So a
    thread of Python begins a team of OpenMP threads here that makes them more, and sleeps with it from then on. Other
    OpenMP libraries do not mind.

    Args:
        num_threads: PyTorch's threads here.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    team = max(2, cores - num_threads + 2)
    ready = Event()

    def sleep() -> None:
        usual = torch.get_num_threads()
        try:
            torch.set_num_threads(team)
            torch.zeros(team * _GRAIN).add_(1)  # starts the team
            torch.set_num_threads(usual)  # also for threads that begin from now on
        finally:
            ready.set()
        Event().wait()

    Thread(target=sleep, name="sparsecode-asleep", daemon=True).start()
    ready.wait()


_POOLS = _Pools()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOLS.after_fork)
