import csv
import json
import math
import pickle
from dataclasses import replace

import pytest
import torch

from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import Fit, Record, Results, load_results
from sparsecode_pl.measurement.compare import with_ratios


@pytest.fixture
def results(fit, tmp_path):
    """Two fits of a layer, one of its control, and a control that failed."""
    place = {"model": "toy", "layer": "3"}
    records = (
        Record("toy layer 3", (fit("a", 4, S1=2.0, lam=0.1), fit("a", 5, S1=3.0, lam=math.nan)), **place),
        Record("Gaussian", (fit("b", S1=10.0, heldout_S1=12.0),), **place, control_of="toy layer 3"),
        Record("Broken", (Fit(0, tmp_path / "c", error="OSError: no disk"),), **place, control_of="toy layer 3"),
    )
    settings = {"model": {"lam": math.inf, "seeds": 2}}
    finished = with_ratios(records[0]), *(with_ratios(control, records[0]) for control in records[1:])
    return Results(tmp_path, finished, settings, complete=False)


def test_a_record_is_a_mapping_of_means_with_the_spread(results):
    record, control, broken = results.records
    assert list(record) == ["data", "model", "layer", "S1", "num_samples", "lam", "spread"]
    assert record["S1"] == 2.5
    assert record["num_samples"] == 90
    assert record["spread"]["S1"] == pytest.approx(math.sqrt(0.5))
    assert math.isnan(record["lam"])
    assert control["S1_ratio"] == 0.25
    assert "heldout_S1_ratio" not in control  # the data has none
    assert "spread" not in control
    assert dict(broken) == {
        "data": "Broken",
        "model": "toy",
        "layer": "3",
        "control_of": "toy layer 3",
        "error": "OSError: no disk",
    }


def test_results_are_read_back_as_they_were(results):
    results.write()
    loaded = load_results(results.folder)
    assert loaded.folder == results.folder.resolve()
    assert not loaded.complete
    assert loaded.settings == {"model": {"lam": None, "seeds": 2}}
    assert loaded.versions == results.versions
    for record, other in zip(loaded.records, results.records, strict=True):
        assert repr(record) == repr(other)  # which holds NaN equal to NaN
        assert [fit.folder for fit in record.fits] == [fit.folder for fit in other.fits]
    assert load_results(results.folder / "results.json").records[1]["S1_ratio"] == 0.25


def test_the_files_have_null_and_empty_cells_for_what_is_not_a_number(results):
    results.write()
    text = (results.folder / "results.json").read_text()
    assert "NaN" not in text
    records = json.loads(text)["results"]
    assert records[0]["lam"] is None
    with (results.folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error"] for row in rows] == ["", "", "OSError: no disk"]
    assert [row["S1"] for row in rows] == ["2.5", "10.0", ""]
    assert [row["lam"] for row in rows] == ["", "", ""]
    assert rows[0]["S1_spread"] == str(results.records[0]["spread"]["S1"])


def test_a_run_folder_can_be_moved(results, tmp_path_factory):
    results.write()
    folder = results.records[0].folder
    folder.mkdir(parents=True)
    Dictionary(torch.eye(3), lam=0.1).save_pretrained(folder / "dictionary")
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    results.folder.rename(moved)
    record = load_results(moved).records[0]
    assert record.folder == moved.resolve() / "a" / "seed_4"
    assert record.dictionary.lam == 0.1


def test_intervals_are_in_both_files_and_are_read_back(with_sums, tmp_path):
    made = Record("data", (with_sums("a"),)), Record("control", (with_sums("b", factor=0.0),), control_of="data")
    results = Results(tmp_path, (with_ratios(made[0]), with_ratios(made[1], made[0])))
    results.write()
    data, control = results.records
    assert all(math.isnan(end) for end in control.intervals["S1_ratio"])  # over a score of 0
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["results"][0]["intervals"]["S1"] == list(data.intervals["S1"])
    assert content["results"][1]["intervals"]["S1_ratio"] == [None, None]
    with (tmp_path / "results.csv").open(newline="") as file:
        row, _ = csv.DictReader(file)
    assert (float(row["S1_low"]), float(row["S1_high"])) == data.intervals["S1"]
    assert "intervals" not in row
    loaded = load_results(tmp_path)
    for record, other in zip(loaded.records, results.records, strict=True):
        assert repr(record) == repr(other)
    before = (tmp_path / "results.json").read_text()
    loaded.write()  # as a report of the run does
    assert (tmp_path / "results.json").read_text() == before


def test_sums_are_kept_with_the_fit_and_go_to_other_processes(with_sums):
    made = with_sums("a")
    made.write()
    fresh = with_ratios(Record("data", (made,)))
    backwards = replace(made, sums=dict(reversed(made.sums.items())))  # files keep no order
    for read in (Fit.read(made.folder), pickle.loads(pickle.dumps(made)), backwards):  # noqa: S301
        record = with_ratios(Record("data", (read,)))
        assert list(record.intervals.items()) == list(fresh.intervals.items())
        assert record == fresh
    (made.folder / "sums.safetensors").write_bytes(b"cut short")
    assert Fit.read(made.folder) is None  # which makes it anew


def test_results_of_format_2_load_without_intervals_and_are_left_as_they_are(results):
    results.write()
    file = results.folder / "results.json"
    before = file.read_text().replace('"format": 3', '"format": 2')
    file.write_text(before)
    loaded = load_results(results.folder)
    assert loaded.format == 2
    assert [record.intervals for record in loaded.records] == [{}] * 3
    assert loaded.records[0]["S1"] == 2.5
    loaded.write()
    assert file.read_text() == before


def test_a_finished_fit_is_read_back_and_nothing_else_is(fit, tmp_path):
    made = replace(fit("a", S1=math.nan), training_penalty_scores={"S1": 1.5})
    assert Fit.read(made.folder) is None
    made.write()
    read = Fit.read(made.folder)
    assert repr(read) == repr(made)
    (made.folder / "fit.json").write_text((made.folder / "fit.json").read_text()[:-5])
    assert Fit.read(made.folder) is None


def test_results_of_the_format_before_load_without_dictionaries(tmp_path):
    record = {"data": "x", "S1": 2.0, "L_norm": None, "spread": {"S1": 0.1}, "control_of": "y", "S1_ratio": 0.5}
    content = {"versions": {"torch": "2"}, "settings": {"seeds": 2}, "results": [record]}
    (tmp_path / "results.json").write_text(json.dumps(content))
    results = load_results(tmp_path)
    (loaded,) = results.records
    assert (loaded["S1"], loaded["S1_ratio"], loaded.control_of) == (2.0, 0.5, "y")
    assert math.isnan(loaded["L_norm"])
    assert results.settings == {"seeds": 2}
    assert loaded["spread"] == {"S1": 0.1}
    before = (tmp_path / "results.json").read_text()
    results.write()  # which leaves what it could not write as fully
    assert (tmp_path / "results.json").read_text() == before
    with pytest.raises(FileNotFoundError, match="older format"):
        _ = loaded.dictionary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as the results of a run"),
        ('{"format": 99}', "it is of format 99, and this version reads up to 3: update sparsecode-pl"),
        ('{"format": 2, "settings": {}, "versions": {}}', "it has no 'results'"),
        ('{"format": 2, "settings": {}, "versions": {}, "results": [{"data": "x", "fits": []}]}', None),
        (
            '{"format": 2, "settings": {}, "versions": {}, "results": [{"data": "x", "fits": [{"seed": 0, "folder": '
            '"../other"}]}]}',
            "a fit's folder is '../other', outside of the run",
        ),
        ("[]", "cannot be read as the results of a run"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=message or "cannot be read as the results") as error:
        load_results(tmp_path)
    assert "results.json" in str(error.value)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there: give the folder of a run"):
        load_results(tmp_path)
