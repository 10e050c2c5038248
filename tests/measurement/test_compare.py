"""Ratios of controls, intervals and frontiers."""

import math
from dataclasses import replace

import pytest
from sparsecode_control import Gaussian, Rademacher

from sparsecode_pl.measurement import Fit, Record, Results, load_results, record
from sparsecode_pl.measurement import run as run_module
from sparsecode_pl.measurement.compare import with_ratios
from sparsecode_pl.measurement.record import Level
from sparsecode_pl.module import SparseCodingModule


def test_records_have_intervals_of_scores_and_ratios(with_sums, fit):
    data = with_ratios(Record("data", (with_sums("a"),)))
    control = with_ratios(Record("control", (with_sums("b", factor=2.0),), control_of="data"), data)
    plain = with_ratios(Record("plain", (fit("c"),), control_of="data"), data)
    assert (plain.intervals, list(plain.ratios)) == ({}, ["S1_ratio"])
    assert list(data.intervals) == ["S1", "heldout_S1"]  # only of scores that the record has
    low, high = data["intervals"]["S1"]
    assert low < data["S1"] < high
    assert control.intervals["S1"] == pytest.approx((2 * low, 2 * high))
    assert control.intervals["S1_ratio"] == (control["S1_ratio"],) * 2  # of the same documents, and so without doubt
    assert list(control.intervals) == ["S1", "heldout_S1", "S1_ratio", "heldout_S1_ratio"]


def test_the_interval_of_several_fits_is_that_of_their_mean(with_sums):
    fits = with_sums("a", 0), with_sums("a", 1, factor=3.0)
    one, mean = with_ratios(Record("one", fits[:1])), with_ratios(Record("mean", fits))
    assert mean.intervals["S1"] == pytest.approx(tuple(2 * end for end in one.intervals["S1"]))
    assert mean.spread["S1"] > 0
    failed = with_ratios(Record("failed", (fits[0], Fit(1, error="OSError: no disk"))))
    assert failed.intervals == {}
    assert "intervals" not in failed


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_score_that_a_fit_lacks_is_left_out_and_the_others_are_means(fit, tmp_path, lacking):
    scores = {"S1": 2.0, "unseen_S1": 4.0}, {"S1": 3.0, "unseen_S1": 5.0}
    del scores[lacking]["unseen_S1"]
    fits = tuple(replace(fit("a", seed), levels=(Level(0.8, each),), scores=each) for seed, each in enumerate(scores))
    record = with_ratios(Record("data", fits))
    for each in (record, record["frontier"][0]):
        assert "unseen_S1" not in each
        assert each["S1"] == 2.5
        assert each["spread"] == {"S1": pytest.approx(math.sqrt(0.5))}
    Results(tmp_path, (record,)).write()
    loaded = load_results(tmp_path).records[0]
    assert (loaded.scores, loaded.spread) == (record.scores, record.spread)
    fewer = replace(fits[lacking], levels=())
    assert with_ratios(Record("data", (fits[1 - lacking], fewer))).frontier == ()


def test_sums_are_resampled_once_for_all_controls(with_sums, monkeypatch):
    resampled = []
    monkeypatch.setattr(
        record, "replicates_of", lambda sums, old=record.replicates_of: resampled.append(1) or old(sums)
    )

    def make(name, **kwargs):
        made = with_sums(name)
        levels = tuple(Level(share, made.scores, made.sums) for share in (0.6, 0.8))
        return Record(name, (replace(made, levels=levels),), **kwargs)

    data = with_ratios(make("data"))
    assert len(resampled) == 3
    controls = [with_ratios(make(name, control_of="data"), data) for name in "ab"]
    assert [len(control.frontier) for control in controls] == [2, 2]
    assert len(resampled) == 9


def test_a_record_is_made_once_however_many_fits_follow(run, make_data, monkeypatch):
    made = []
    monkeypatch.setattr(run_module, "with_ratios", lambda *given: made.append(given[0].data) or with_ratios(*given))
    records = run(
        SparseCodingModule(16, num_atoms=24, lam=0.1), make_data(batches_per_round=1), Gaussian(), Rademacher()
    )
    assert made == [record["data"] for record in records]
    assert len(made) == 3
