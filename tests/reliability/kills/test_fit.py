"""`sparsecode fit --ckpt_path last`, killed and run again: it ends as the run that was not killed, bit for bit."""

import contextlib
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch


def outcome(folder: Path, scalars) -> dict[str, object]:
    """What a run has learnt: the dictionary, its facts, the final state of the module, and all curves."""
    (run,) = (folder / "lightning_logs").iterdir()  # a resumed run goes on in its own folder
    newest = max((run / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    state = torch.load(newest, weights_only=True)
    (curves,) = scalars(run).values()
    points = [(tag, step) for tag, step, _ in curves if tag != "epoch"]  # Lightning itself logs this one twice
    assert len(points) == len(set(points)), "points are doubled"
    return {
        "weights": (run / "dictionary" / "dictionary.safetensors").read_bytes(),
        "facts": json.loads((run / "dictionary" / "dictionary.json").read_text()),
        "state": {name: value.numpy().tobytes() for name, value in state["state_dict"].items()},
        "newest": newest.name,
        "left": [path.name for path in newest.parent.glob("*.partial")],
        "curves": [(tag, step, "nan" if math.isnan(value) else value) for tag, step, value in curves],
    }


def moment(folder: Path) -> str:
    """Where a run was killed, as far as its files tell."""
    saved = list(folder.glob("lightning_logs/*/checkpoints/*"))
    if any(path.suffix == ".partial" for path in saved):
        return "in the writing of a checkpoint"
    if not saved:
        return "before the first checkpoint"
    newest = max(saved, key=lambda path: path.stat().st_mtime_ns)
    return "after the end of a round" if "batch=6" in newest.name else "within a round"


def finish(server, folder: Path, words: list[str], **environment: str) -> None:
    last = server.start(folder, *words, **environment)
    assert last.end() == 0, last.said
    # Where it was killed before anything was saved, a new run has begun in a folder of its own.
    for run in (folder / "lightning_logs").iterdir():
        if not list(run.glob("checkpoints/*.ckpt")):
            shutil.rmtree(run)


@pytest.fixture(scope="module")
def whole(whole_fit, scalars) -> tuple[dict[str, object], int]:
    """What the uninterrupted run has learnt, and how many changes it made."""
    found = outcome(whole_fit.folder, scalars)
    assert len(found["curves"]) > 20
    return found, whole_fit.changes


@pytest.mark.parametrize("changed", [[], ["--data.num_workers=2"]])
def test_killed_and_resumed_it_is_the_same_run(
    server, fit_words, whole, tmp_path, moments, scalars, long, counted, changed
):
    if changed and not long:
        pytest.skip("long form only")
    words = [*fit_words, *changed]  # which make no difference to what is learnt
    expected, changes = whole
    suite = "kills: fit" + (", 2 loader workers" if changed else "")
    for trial in range((8 if changed else 20) if long else 1):
        folder = tmp_path / str(trial)
        folder.mkdir()
        for kill in range(4 if long else 3):
            if server.start(folder, *words, **moments(changes // (1 + kill))).died():
                counted(suite, f"killed {moment(folder)}")
            else:
                counted(suite, "ended before the kill")
        finish(server, folder, words)
        check_same(outcome(folder, scalars), expected)
        counted(suite, "ended as the uninterrupted run")


def check_same(found: dict[str, object], whole: dict[str, object]) -> None:
    for name, value in whole.items():
        assert found[name] == value, name


def test_told_to_stop_it_saves_and_leaves_with_a_line(server, fit_words, whole, tmp_path, scalars, long, counted):
    expected, changes = whole
    middle = changes // 2
    for at in range(8, changes - 4, 2) if long else [middle]:
        folder = tmp_path / str(at)
        folder.mkdir()
        stopped = server.start(folder, *fit_words, at=at, fate="SIGTERM")
        status = stopped.end()
        assert "Traceback" not in stopped.said, stopped.said
        assert status in (0, 128 + signal.SIGTERM), stopped.said  # in its last round it ends as it would anyway
        if status:
            assert "stopped by SIGTERM: " in stopped.said
        counted("kills: fit, SIGTERM", "saved and left" if status else "was at its end")
        finish(server, folder, fit_words)
        check_same(outcome(folder, scalars), expected)
        counted("kills: fit, SIGTERM", "ended as the uninterrupted run")


def test_requeued_by_slurm_it_goes_on(server, fit_words, whole, job, tmp_path, scalars, long, counted):
    expected, changes = whole
    middle = changes // 2
    for at in (middle - 8, middle, middle + 8) if long else [middle]:
        folder = tmp_path / str(at)
        folder.mkdir()
        announced = server.start(folder, *fit_words, at=at, fate="SIGUSR1", **job)
        assert announced.died(), announced.said
        assert "asked scontrol to requeue 7" in announced.said
        assert list(folder.glob("hpc_ckpt_*.ckpt"))
        finish(server, folder, fit_words, **job)
        check_same(outcome(folder, scalars), expected)
        assert not list(folder.glob("hpc_ckpt_*.ckpt")), "another fit would go on from it"
        counted("kills: fit, requeued by SLURM", "ended as the uninterrupted run")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def test_a_loader_worker_that_is_killed_loses_no_checkpoint(server, fit_words, whole, tmp_path, scalars, long, counted):
    if not long:
        pytest.skip("long form only")
    words = [*fit_words, "--data.num_workers=2"]
    expected, _ = whole
    for trial in range(3):
        folder = tmp_path / str(trial)
        folder.mkdir()
        run = server.start(folder, *words)
        while not (found := children(run.pid)) and run.status() is None:
            time.sleep(0.005)
        time.sleep(0.2 * trial)
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[-1], signal.SIGKILL)
        status = run.end()
        if status:
            assert "error: a loader process was lost, perhaps because memory ran out" in run.said, run.said
            assert "Traceback" not in run.said
        counted("kills: fit, a loader worker killed", f"status {status}")
        finish(server, folder, words)
        check_same(outcome(folder, scalars), expected)
        counted("kills: fit, a loader worker killed", "ended as the uninterrupted run")


@pytest.mark.parametrize("victim", ["both", "second"])
def test_two_processes(server, fit_words, tmp_path, scalars, long, counted, victim):
    if not long:
        pytest.skip("long form only: the second process imports for seconds")
    words = [*fit_words, "--trainer.devices=2", "--trainer.strategy=ddp"]
    (tmp_path / "whole").mkdir()
    uninterrupted = server.start(tmp_path / "whole", *words)
    assert uninterrupted.end() == 0, uninterrupted.said
    whole = outcome(tmp_path / "whole", scalars)
    for trial in range(3):
        folder = tmp_path / str(trial)
        folder.mkdir()
        run = server.start(folder, *words)
        while not list(folder.glob("lightning_logs/*/checkpoints/*.ckpt")) and run.status() is None:
            time.sleep(0.005)
        time.sleep(0.1 * trial)
        if victim == "both":
            run.kill()
        else:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(children(run.pid)[0], signal.SIGKILL)
        counted(f"kills: fit on 2 processes, {victim} killed", f"status {run.end()}")
        finish(server, folder, words)
        found = outcome(folder, scalars)
        assert [point[:2] for point in found["curves"]] == [point[:2] for point in whole["curves"]]
        for (tag, step, value), (_, _, expected) in zip(found["curves"], whole["curves"], strict=True):
            assert value == pytest.approx(expected, rel=1e-4), (tag, step)
        counted(f"kills: fit on 2 processes, {victim} killed", "ended as the uninterrupted run")
