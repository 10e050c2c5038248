"""`sparsecode measure --jobs 2`, whose workers are processes of their own, each with an import of PyTorch."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from sparsecode_pl import load_results


@pytest.fixture(autouse=True)
def _long(long):
    if not long:
        pytest.skip("long form only: each worker imports for seconds")


@pytest.fixture
def words(measure_words) -> list[str]:
    """The command line of six fits, two at a time."""
    return [*measure_words, "--jobs=2", "--seeds=3"]


def workers(pid: int) -> list[int]:
    """The worker processes below a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and "popen_loky" in words:
            found.append(int(path.name))
    return found


def fits(folder: Path) -> list[Path]:
    return sorted(folder.rglob("fit.json"))


def until_training(run, folder: Path, moments: random.Random) -> None:
    """Wait until some fit has begun, and a random time longer."""
    end = time.monotonic() + 200
    while not list(folder.rglob("events.out.tfevents.*")) and time.monotonic() < end:
        assert run.status() is None, run.said
        time.sleep(0.05)
    time.sleep(moments.uniform(0, 6))


@pytest.fixture
def whole(server, measure_words, tmp_path):
    """The scores of the uninterrupted run, made in one process."""
    (tmp_path / "whole").mkdir()
    run = server.start(tmp_path / "whole", *measure_words, "--seeds=3")
    assert run.end() == 0, run.said
    return [record["S1"] for record in load_results(tmp_path / "whole" / "out" / "version_0").records]


@pytest.mark.parametrize("victim", ["group", "parent"])
def test_killed_and_resumed_it_is_the_same_run(server, words, tmp_path, whole, counted, victim):
    moments = random.Random(0)  # noqa: S311
    for trial in range(3):
        folder = tmp_path / str(trial)
        folder.mkdir()
        run = server.start(folder, *words)
        until_training(run, folder, moments)
        left = workers(run.pid)
        run.kill(group=victim == "group")
        run.end()
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < end:
            time.sleep(0.1)
        assert not [pid for pid in left if Path(f"/proc/{pid}").exists()], "workers go on without the run"
        counted("kills: measure --jobs 2", f"{victim} killed with {len(fits(folder))} of 6 fits")
        times = {path: path.stat().st_mtime_ns for path in fits(folder)}
        last = server.start(folder, *words, f"--resume={folder / 'out' / 'version_0'}")
        assert last.end(600) == 0, last.said
        assert [record["S1"] for record in load_results(folder / "out" / "version_0").records] == pytest.approx(
            whole, rel=1e-6
        )
        assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        counted("kills: measure --jobs 2", "ended as the uninterrupted run")
        shutil.rmtree(folder)


def test_a_worker_that_is_killed_takes_no_other_along(server, words, tmp_path, whole, counted):
    moments = random.Random(1)  # noqa: S311
    for trial in range(3):
        folder = tmp_path / str(trial)
        folder.mkdir()
        run = server.start(folder, *words)
        until_training(run, folder, moments)
        living = workers(run.pid)
        if living:
            os.kill(moments.choice(living), signal.SIGKILL)
        status = run.end(600)
        if status:  # the fit of the killed worker is named, all others are made
            assert "its process was lost" in run.said
            assert len(fits(folder)) >= 5
            again = server.start(folder, *words, f"--resume={folder / 'out' / 'version_0'}")
            assert again.end(600) == 0, again.said
        found = [record["S1"] for record in load_results(folder / "out" / "version_0").records]
        assert found == pytest.approx(whole, rel=1e-6)
        counted("kills: measure --jobs 2", f"a worker killed, {'named' if status else 'its fit made again'}")
