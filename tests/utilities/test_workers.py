"""Where fits are made. GPUs are pretended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch

from sparsecode_pl.utilities.workers import Processes, as_worker, visible_gpus


@pytest.fixture
def no_setting(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def given(number: int) -> list[str | None]:
    workers = Processes(number)
    return [workers._settings(place).get("CUDA_VISIBLE_DEVICES") for place in range(number)]


def test_each_process_has_a_gpu_of_its_own(monkeypatch, no_setting):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert given(3) == ["0", "1", "2"]
    assert given(5) == ["0", "1", "2", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert given(2) == ["4", "7"]


def test_without_gpus_none_is_named(monkeypatch, no_setting):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert given(2) == [None, None]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("1,-1,0", ["1"]), ("2, 0", ["2", "0"]), ("GPU-8a,MIG-3", ["GPU-8a", "MIG-3"])],
)
def test_gpus_that_are_hidden_do_not_count(monkeypatch, visible, names):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == names


def test_the_workers_of_a_machine_take_different_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = []
    for _ in range(3):  # locks tell open files apart, not processes
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        with as_worker():
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
        with as_worker():  # the next fit has the same
            assert os.environ["CUDA_VISIBLE_DEVICES"] == taken[-1]
    assert taken[:2] == ["4", "7"]
    assert taken[2] in ("4", "7")


@pytest.mark.parametrize("visible", ["3", ""])
def test_a_worker_keeps_the_one_gpu_or_none_that_it_sees(monkeypatch, tmp_path, visible):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with as_worker():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_takes_no_other_along():
    workers = Processes(2)
    try:
        calls = [workers.submit(os._exit, 1), workers.submit(os.getpid)]
        with pytest.raises(BrokenProcessPool):
            calls[0].result()
        living = calls[1].result()
        # Of the two processes one is the same, and one is new.
        calls = [workers.submit(os.getpid) for _ in range(2)]
        assert living in {call.result() for call in calls} - {os.getpid()}
        assert len({call.result() for call in calls}) == 2
    finally:
        workers.shutdown(wait=False)


def test_processes_end_with_the_one_that_started_them():
    script = (
        "import os, time\n"
        "from sparsecode_pl.utilities.workers import Processes\n"
        "workers = Processes(1)\n"
        "print(workers.submit(os.getpid).result(), flush=True)\n"
        "workers.submit(time.sleep, 60).result()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        worker = Path("/proc", parent.stdout.readline().strip())
        assert worker.is_dir()
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not worker.is_dir():
            break
        time.sleep(0.1)
    assert not worker.is_dir()
