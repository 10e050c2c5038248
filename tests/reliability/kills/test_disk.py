"""A disk that is full, or becomes read-only: a named error, nothing lost, and the run goes on once there is room."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsecode_pl import Dictionary, load_results
from sparsecode_pl.data import Store

FATES = {"full": "No space left on device", "read-only": "Read-only file system"}


@pytest.fixture(params=FATES)
def fate(request) -> str:
    return request.param


@pytest.fixture
def work(tmp_path, fate) -> Iterator[Path]:
    """A folder to work in, on a small disk of its own if that is to be filled."""
    disk = tmp_path / "disk"
    (disk / "work").mkdir(parents=True)
    if fate != "full":
        yield disk / "work"
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "small", str(disk)], capture_output=True)  # noqa: S603, S607
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        (disk / "work").mkdir()
        yield disk / "work"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # noqa: S603, S607


def make_room(work: Path) -> None:
    Path(f"{work}-ballast").unlink(missing_ok=True)


def message(run) -> str:
    """The error of a run that ended with one line of its own."""
    assert run.end() in (1, 2), run.said
    assert "Traceback" not in run.said, run.said
    return " ".join(run.said.rpartition("error: ")[2].split())


def only_in_the_long_form(skipped: bool) -> None:
    if skipped:
        pytest.skip("long form only")


def test_a_store(server, cache_words, whole_store, work, fate, contents, long, counted):
    only_in_the_long_form(fate == "full" and not long)  # tests/store fills a disk, too
    run = server.start(work, *cache_words("store"), at=whole_store.changes // 2, fate=fate)
    said = message(run)
    assert f"the store at store cannot be written ({FATES[fate]})" in said
    safe = Store(work / "store", partial=True, verify=True).num_rows
    assert 0 < safe < 6000
    assert f"{safe} rows of each layer are safe there" in said
    make_room(work)
    assert server.start(work, *cache_words("store")).end() == 0
    assert contents(work / "store") == contents(whole_store.folder / "store")
    counted("disk: cache", f"{fate}, named, and finished later")


def test_a_measurement(server, measure_words, whole_measurement, work, fate, long, counted):
    only_in_the_long_form(fate == "read-only" and not long)
    expected = load_results(whole_measurement.folder / "out" / "version_0").records
    changes = whole_measurement.changes
    for at in range(changes // 12, changes, changes // 12) if long else [changes * 2 // 3]:
        run = server.start(work, *measure_words, at=at, fate=fate)
        said = message(run)
        assert FATES[fate] in said
        folder = work / "out" / "version_0"
        make_room(work)
        resume = []
        if (folder / "results.json").is_file():
            assert "resume the run" in said, at
            safe = len(list(folder.glob("*/fit.json")))
            times = {path: path.stat().st_mtime_ns for path in folder.glob("*/fit.json")}
            assert f"{safe} of 2 fits are safe" in said or f"{2 - safe} of 2 data sets failed" in said
            resume = ["--resume", str(folder)]
        last = server.start(work, *measure_words, *resume)
        assert last.end() == 0, last.said
        found = load_results(max((work / "out").iterdir())).records
        assert [record["S1"] for record in found] == [record["S1"] for record in expected]
        if resume:
            assert all(path.stat().st_mtime_ns == time for path, time in times.items())
        shutil.rmtree(work / "out")
        counted("disk: measure", f"{fate}, named, and finished later")


def test_a_fit(server, fit_words, whole_fit, work, fate, long, counted):
    only_in_the_long_form(fate == "read-only" and not long)
    weights = Path("dictionary", "dictionary.safetensors")
    expected = (whole_fit.folder / "lightning_logs" / "version_0" / weights).read_bytes()
    run = server.start(work, *fit_words, at=whole_fit.changes // 2, fate=fate)
    said = message(run)
    assert FATES[fate] in said
    saved = list((work / "lightning_logs" / "version_0" / "checkpoints").glob("*.ckpt"))
    assert saved
    assert "--ckpt_path last" in said
    make_room(work)
    last = server.start(work, *fit_words)
    assert last.end() == 0, last.said
    (run,) = (work / "lightning_logs").iterdir()
    assert (run / weights).read_bytes() == expected
    counted("disk: fit", f"{fate}, named, and finished later")


def test_a_dictionary(server, work, fate, counted):
    import torch

    for number, name in ((1, "old"), (2, "new")):
        atoms = torch.nn.functional.normalize(torch.randn(64, 8, generator=torch.Generator().manual_seed(number)))
        Dictionary(atoms, lam=float(number)).save_pretrained(work / name)
    run = server.start(work, "new", "old", task="save_dictionary", at=2, fate=fate)
    assert run.end() == 70
    assert f"cannot be written ({FATES[fate]}), and what was there is unchanged: " in run.said
    assert Dictionary.from_pretrained(work / "old").lam == 1
    make_room(work)
    assert server.start(work, "new", "old", task="save_dictionary").end() == 0
    assert Dictionary.from_pretrained(work / "old").lam == 2
    counted("disk: dictionary", f"{fate}, named, and saved later")
