"""Scores at several shares of the variance."""

import json
import math
import warnings
from functools import partial

import pytest
from PIL import Image
from sparsecode_control import MatchedGaussian

from sparsecode_pl.measurement import load_results, measure, shares
from sparsecode_pl.measurement.report import report
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule

TRAINER = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2, enable_progress_bar=False)
SHARES = [0.8, 0.9, 0.6]
KINDS = ("", "heldout_")


@pytest.fixture(scope="module")
def measured(make_data, tmp_path_factory):
    """The run folder and the records of data and a control, at three shares."""
    folder = tmp_path_factory.mktemp("shares")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"explained_variance": SHARES, "folder": folder, "trainer": TRAINER}
        records = measure(SparseCodingModule(16, expansion=3), make_data(), [MatchedGaussian()], **options)
    return folder / "version_0", records


def test_the_frontier_has_the_scores_at_each_share_ascending(measured):
    _, records = measured
    for record in records:
        assert [level["share"] for level in record["frontier"]] == sorted(SHARES)
        for level in record["frontier"]:
            for prefix in KINDS:
                assert level["share"] <= level[f"{prefix}explained_variance"] < level["share"] + 0.05
                low, high = level["intervals"][f"{prefix}S1"]
                assert low < level[f"{prefix}S1"] < high
        for prefix in KINDS:  # more of the variance takes more coefficients
            penalties, counts = ([level[prefix + name] for level in record["frontier"]] for name in ("lam", "N0"))
            assert penalties == sorted(penalties, reverse=True)
            assert counts == sorted(counts)


def test_the_scores_of_a_record_are_those_at_the_first_share(measured):
    _, records = measured
    for record in records:
        level = next(level for level in record["frontier"] if level["share"] == SHARES[0])
        names = level.keys() - {"share", "intervals"}
        assert names > {"S1", "heldout_S1", "lam", "heldout_lam"}
        assert {name: record[name] for name in names} == {name: level[name] for name in names}
        assert record["intervals"] == level["intervals"]
        assert record.dictionary.lam == record["lam"] != record["train_lam"]


def test_controls_have_ratios_at_each_share(measured):
    _, (record, control) = measured
    for level, other in zip(record["frontier"], control["frontier"], strict=True):
        for name in ("S1", "heldout_S1"):
            assert other[f"{name}_ratio"] == level[name] / other[name]
            low, high = other["intervals"][f"{name}_ratio"]
            assert low < other[f"{name}_ratio"] < high
            assert f"{name}_ratio" not in level


def test_they_are_in_the_files_and_drawn(measured, capsys):
    folder, records = measured
    assert [repr(record) for record in load_results(folder).records] == [repr(record) for record in records]
    with Image.open(folder / "frontier.png") as image:
        assert image.format == "PNG"
    before = {name: (folder / name).read_bytes() for name in ("results.json", "frontier.png")}
    (folder / "frontier.png").unlink()
    report(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert "S1 of held-out rows where the codes explain a share of" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("patience", [1.0, 1.1], ids=["at once", "in a later pass"])
def test_the_first_share_is_that_of_the_record_however_late_it_is_reached(run, make_data, monkeypatch, patience):
    """A share may be missed by the first pass over all rows, where a later one is not."""
    search = shares.largest_penalty

    def too_large(dictionary, rows, share, *known):
        lam, slope = search(dictionary, rows, share, *known)
        return lam * (patience if share == SHARES[0] else 1.0), slope

    monkeypatch.setattr(shares, "largest_penalty", too_large)
    (record,) = run(SparseCodingModule(16, expansion=3, lam=0.1), make_data(), explained_variance=SHARES)
    assert [level["share"] for level in record["frontier"]] == sorted(SHARES)
    assert 0.8 <= record["explained_variance"] < 0.9
    assert record["S1"] == record["frontier"][1]["S1"]


def test_a_share_out_of_reach_is_left_out_with_a_warning_and_the_others_are_kept(run, make_data, tmp_path):
    with pytest.warns(UserWarning, match=r"explained_variance is 0.9999, but .*The scores there are left out"):
        (record,) = run(SparseCodingModule(16, num_atoms=8), make_data(), explained_variance=[0.3, 0.9999])
    assert [level["share"] for level in record["frontier"]] == [0.3]
    assert record["explained_variance"] >= 0.3
    assert (tmp_path / "runs" / "version_0" / "frontier.png").is_file()


def test_one_share_has_no_frontier(run, make_data, tmp_path):
    (record,) = run(SparseCodingModule(16, expansion=3, lam=0.1), make_data(), explained_variance=[0.8])
    assert "frontier" not in record
    assert not (tmp_path / "runs" / "version_0" / "frontier.png").exists()


def test_several_seeds_have_means_at_each_share(run, make_data):
    (both,) = run(SparseCodingModule(16, expansion=3, lam=0.1), make_data(), explained_variance=[0.8, 0.6], seeds=2)
    for level in both["frontier"]:
        single = [fit.at(level["share"]).scores["S1"] for fit in both.fits]
        assert level["S1"] == pytest.approx(sum(single) / 2)
        assert level["spread"]["S1"] > 0


def test_a_resumed_run_keeps_the_shares_of_its_finished_fits(run, make_data, tmp_path):
    def content(value):
        if isinstance(value, dict):
            return {name: content(item) for name, item in value.items() if name != "seconds"}
        return [content(item) for item in value] if isinstance(value, list) else value

    options = {"explained_variance": [0.8, 0.6], "trainer": TRAINER}
    module = partial(SparseCodingModule, 16, expansion=3, lam=0.1)
    run(module(), make_data(), MatchedGaussian(), **options)
    folder = tmp_path / "runs" / "version_0"
    before = content(json.loads((folder / "results.json").read_text()))
    (folder / "1-MatchedGaussian" / "fit.json").unlink()
    record, control = run(module(), make_data(), MatchedGaussian(), **options, resume=folder)
    assert content(json.loads((folder / "results.json").read_text())) == before
    assert [len(each["frontier"]) for each in (record, control)] == [2, 2]
    assert not any(math.isnan(level["S1_ratio"]) for level in control["frontier"])
    with pytest.raises(ValueError, match=r"explained_variance\[1\] is 0.7, but the run in .* was made with 0.6"):
        run(module(), make_data(), MatchedGaussian(), **options | {"explained_variance": [0.8, 0.7]}, resume=folder)
