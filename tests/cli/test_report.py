import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.cli import main

DRAWN = ["results.csv", "sparsity.png"]


@pytest.fixture
def run(measured, tmp_path):
    """A copy of a run folder."""
    return shutil.copytree(measured, tmp_path / "run")


@pytest.fixture
def records_alone(measured, tmp_path):
    """A folder with nothing but the records of a run: no dictionary, no curve, no picture."""
    folder = tmp_path / "records"
    folder.mkdir()
    shutil.copy(measured / "results.json", folder)
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_files_of_a_run_come_back_from_its_records_alone(records_alone, measured, here, untrained):
    main(["report", str(records_alone)])
    assert {path.name for path in records_alone.iterdir()} >= {"results.json", *DRAWN}
    for name in ("results.json", "results.csv"):
        assert (records_alone / name).read_bytes() == (measured / name).read_bytes(), name
    np.testing.assert_array_equal(pixels(records_alone / "sparsity.png"), pixels(measured / "sparsity.png"))


def test_the_table_has_the_scores_of_every_record(run, here, capsys):
    main(["report", str(run)])
    shown = capsys.readouterr().out
    records = json.loads((run / "results.json").read_text())["results"]
    assert len(records) == 2
    assert "How sparse is SparseLinear a=1.5?" in shown
    for record in records:
        (line,) = (line for line in shown.splitlines() if line.strip().startswith(f"{record['data']} "))
        low, high = record["intervals"]["heldout_S1"]
        figures = f"{record['S1']:#.3g} {record['heldout_S1']:#.3g} [{low:#.3g}, {high:#.3g}]"
        assert figures in " ".join(line.split())


def test_what_is_drawn_follows_the_records(run, here, capsys):
    content = json.loads((run / "results.json").read_text())
    content["results"][0]["fits"][0]["scores"]["S1"] = 123.0
    (run / "results.json").write_text(json.dumps(content))
    before = pixels(run / "sparsity.png")
    main(["report", str(run)])
    assert "SparseLinear a=1.5 123 " in " ".join(capsys.readouterr().out.split())
    assert "123.0" in (run / "results.csv").read_text()
    assert not np.array_equal(pixels(run / "sparsity.png"), before)


def test_the_picture_takes_the_place_of_the_one_in_tensorboard(run, here):
    curves = {path: path.read_bytes() for path in run.glob("*/**/events*")}
    assert len(curves) == 2
    main(["report", str(run)])
    (events,) = run.glob("events.out.tfevents.*")
    (image,) = EventAccumulator(str(events)).Reload().Images("sparsity")
    assert (image.height, image.width) == pixels(run / "sparsity.png").shape[:2]
    assert {path: path.read_bytes() for path in run.glob("*/**/events*")} == curves


def test_a_file_of_results_may_be_named_instead_of_its_folder(records_alone, here):
    main(["report", str(records_alone / "results.json")])
    assert {path.name for path in records_alone.iterdir()} >= set(DRAWN)


def test_a_folder_without_results_is_refused_and_left_alone(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused("report", str(tmp_path / "empty"))
    assert f"{tmp_path}/empty/results.json is not there: give the folder of a run, such as lightning_logs" in message
    assert not list((tmp_path / "empty").iterdir())
    assert "nowhere/results.json is not there" in refused("report", "nowhere")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read as the results of a run"),
        (lambda content: b"{}", "it has no 'results'"),
        (lambda content: content.replace(b'"format": 3', b'"format": 99'), "it is of format 99, and this version"),
    ],
    ids=["cut off", "empty", "newer"],
)
def test_results_that_cannot_be_read_are_refused_and_left_alone(refused, records_alone, change, reason):
    path = records_alone / "results.json"
    path.write_bytes(damaged := change(path.read_bytes()))
    message = refused("report", str(records_alone))
    assert str(path) in message
    assert reason in message
    assert [(file.name, file.read_bytes()) for file in records_alone.iterdir()] == [("results.json", damaged)]


def test_the_folder_is_asked_for(refused):
    assert "run" in refused("report")
