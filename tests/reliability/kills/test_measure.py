"""`sparsecode measure`, killed and resumed: the run folder ends as that of a run that was not killed."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sparsecode_pl import load_results


def without_seconds(value):
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if "seconds" not in name}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def content(run: Path, scalars) -> dict[str, object]:
    """All files of a run by name, without the times in them; of TensorBoard's files the curves."""
    found: dict[str, object] = {"curves": scalars(run)}
    for path in run.rglob("*"):
        name = str(path.relative_to(run))
        if path.is_dir() or "tfevents" in name:
            continue
        if path.suffix == ".json":
            found[name] = without_seconds(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def check_killed(run: Path, server, folder: Path) -> int:
    """What a killed run has left is whole; the number of its records, which `sparsecode report` can draw again."""
    results = load_results(run)
    for record in results.records:
        assert record.dictionary.num_atoms == 32
    for path in run.glob("*.png"):
        with Image.open(path) as image:
            image.load()
    again = shutil.copytree(run, folder / "again")
    report = server.start(folder, "report", str(again))
    assert report.end() == 0, report.said
    assert len((again / "results.csv").read_text().splitlines()) == 1 + len(results.records)
    shutil.rmtree(again)
    return len(results.records)


def test_killed_and_resumed_it_is_the_same_run(
    server, measure_words, whole_measurement, tmp_path, moments, scalars, long, counted
):
    whole = content(whole_measurement.folder / "out" / "version_0", scalars)
    assert len(whole) > 15
    for trial in range(10 if long else 1):
        folder = tmp_path / str(trial)
        folder.mkdir()
        run = folder / "out" / "version_0"
        for _ in range(3 if long else 2):
            resume = ["--resume", str(run)] if (run / "results.json").is_file() else []
            killed = server.start(folder, *measure_words, *resume, **moments(whole_measurement.changes))
            if killed.died() and (run / "results.json").is_file():
                counted("kills: measure", f"killed with {check_killed(run, server, folder)} of 2 records")
            elif not (run / "results.json").is_file():
                shutil.rmtree(folder / "out", ignore_errors=True)
                counted("kills: measure", "killed before the run began")
        resume = ["--resume", str(run)] if (run / "results.json").is_file() else []
        last = server.start(folder, *measure_words, *resume)
        assert last.end() == 0, last.said
        assert content(run, scalars) == whole
        counted("kills: measure", "ended as the uninterrupted run")


def test_requeued_by_slurm_no_fit_goes_on_from_another(
    server, measure_words, whole_measurement, tmp_path, scalars, job, long, counted
):
    if not long:
        pytest.skip("long form only")
    whole = content(whole_measurement.folder / "out" / "version_0", scalars)
    for share in (0.2, 0.7):
        folder = tmp_path / str(share)
        folder.mkdir()
        announced = server.start(
            folder, *measure_words, at=int(share * whole_measurement.changes), fate="SIGUSR1", **job
        )
        assert announced.died(), announced.said
        assert "asked scontrol to requeue 7" in announced.said
        run = folder / "out" / "version_0"
        last = server.start(folder, *measure_words, f"--resume={run}", **job)
        assert last.end() == 0, last.said
        assert content(run, scalars) == whole
        counted("kills: measure, requeued by SLURM", "ended as the uninterrupted run")
