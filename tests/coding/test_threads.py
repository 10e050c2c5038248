import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sparsecode_pl.coding import greedy_encode, lasso_encode, threads
from sparsecode_pl.coding.threads import chunk_rows, share_rows


def problem(n, m, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return x, torch.nn.functional.normalize(torch.randn(m, d, generator=generator), dim=1)


@pytest.fixture(autouse=True)
def threads_of_the_caller():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def default_threads():
    """PyTorch's threads in a Python thread that begins now."""
    with ThreadPoolExecutor(1) as new:
        return new.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_results_come_in_the_order_of_the_rows(num_threads):
    torch.set_num_threads(num_threads)

    def work(rows):
        time.sleep(0.001 * (rows.start % 3))
        return list(range(100)[rows])

    parts = share_rows(100, 7, lambda: work)
    assert [row for part in parts for row in part] == list(range(100))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) <= 7
    assert share_rows(0, 7, lambda: work) == []


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_each_thread_has_one_thread_of_pytorch_and_the_caller_keeps_its_own(num_threads):
    torch.set_num_threads(num_threads)
    threads._POOLS.forget()
    started = []

    def start_thread():
        started.append(threading.get_ident())
        return lambda rows: (torch.get_num_threads(), threading.get_ident(), time.sleep(0.01))

    seen = share_rows(12, 1, start_thread)
    assert {found[0] for found in seen} == {1}
    assert len(set(started)) == num_threads
    assert (threading.get_ident() in started) == (num_threads == 1)
    assert torch.get_num_threads() == default_threads() == num_threads


def test_an_error_reaches_the_caller_and_leaves_all_as_it_was():
    torch.set_num_threads(3)
    done = []

    def work(rows):
        if rows.start == 4:
            raise ZeroDivisionError("row 4")
        time.sleep(0.001)
        done.append(rows.start)

    with pytest.raises(ZeroDivisionError, match="row 4"):
        share_rows(1000, 1, lambda: work)
    assert len(done) < 900  # the others stop
    assert torch.get_num_threads() == default_threads() == 3
    assert share_rows(2, 1, lambda: lambda rows: rows.start) == [0, 1]


def test_chunks_are_bounded_in_rows_and_bytes_and_do_not_depend_on_few_threads():
    for num_threads in (1, 2, 4, 8):
        torch.set_num_threads(num_threads)
        assert chunk_rows(4096, 4 * 2048) == 256
        assert chunk_rows(1000, 4 * 2048) == 62
        assert chunk_rows(10, 4 * 2048) == 32
        assert chunk_rows(4096, 4 * 131_072) == 4
        assert chunk_rows(4096, 2**30) == 1
    torch.set_num_threads(64)
    assert 64 * chunk_rows(10**6, 4 * 2048) * 4 * 2048 <= threads.CHUNK_BYTES


@pytest.mark.parametrize("find", [greedy_encode, lambda *a: lasso_encode(*a).codes], ids=["greedy", "lasso"])
def test_codes_are_the_same_to_the_last_digit_whatever_the_number_of_threads(find):
    x, atoms = problem(700, 300, 32)
    found = []
    for num_threads in (1, 2, 4):
        torch.set_num_threads(num_threads)
        found.append(find(x, atoms, 0.5))
    for other in found[1:]:
        assert torch.equal(found[0].crow_indices(), other.crow_indices())
        assert torch.equal(found[0].col_indices(), other.col_indices())
        assert torch.equal(found[0].values(), other.values())


def test_several_python_threads_may_encode_at_once():
    problems = [problem(300, 200, 24, seed) for seed in range(4)]
    expected = [(greedy_encode(*p, 0.5), lasso_encode(*p, 0.5).codes) for p in problems]
    before = torch.get_num_threads()

    def encode(number):
        torch.get_num_threads()  # else PyTorch would set it again at its first use
        torch.set_num_threads(1 + number % 3)
        found = [(greedy_encode(*problems[number], 0.5), lasso_encode(*problems[number], 0.5).codes) for _ in range(5)]
        return found, torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        for number, (found, num_threads) in enumerate(pool.map(encode, range(4))):
            assert num_threads == 1 + number % 3
            for pair in found:
                for ours, theirs in zip(pair, expected[number], strict=True):
                    assert torch.equal(ours.to_dense(), theirs.to_dense())
    assert torch.get_num_threads() == before


FORK = """
import os, sys, torch
from sparsecode_pl.coding import greedy_encode, lasso_encode
torch.manual_seed(0)
x, atoms = torch.randn(500, 64), torch.nn.functional.normalize(torch.randn(600, 64), dim=1)
# So large that OpenMP has been used.
torch.mm(atoms, atoms.T)
def values():
    ways = greedy_encode(x, atoms, 0.5), greedy_encode(x, atoms, 0.5, memory=1), lasso_encode(x, atoms, 0.5).codes
    return [codes.values().numpy().tobytes() for codes in ways]
before = values()
child = os.fork()
if child == 0:
    os._exit(0 if values() == before else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert values() == before
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_encodes_too():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("shares", "expected"), [([1.1] * 9, 0), ([2.0, 1.1] * 5, 0), ([1.1, 2.0, 2.0, 2.0], 1)])
def test_openmp_sleeps_once_the_machine_was_busy_twice_in_a_row(monkeypatch, shares, expected):
    asleep = []
    monkeypatch.setattr(threads, "_let_openmp_sleep", asleep.append)
    for name in threads.SPIN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    pools = threads._Pools()
    for share in shares:
        pools.notice(share, 1.0, num_threads=2)
    assert len(asleep) == expected


@pytest.mark.parametrize("setting", threads.SPIN_SETTINGS)
def test_openmp_is_left_alone_where_the_user_has_said_how_it_waits(monkeypatch, setting):
    monkeypatch.setattr(threads, "_let_openmp_sleep", lambda _: pytest.fail("the user's setting is overridden"))
    monkeypatch.setenv(setting, "7")
    pools = threads._Pools()
    for _ in range(5):
        pools.notice(9.0, 1.0, num_threads=2)
