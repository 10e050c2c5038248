import math

import pytest
import torch
from sparsecode_control import Gaussian

from sparsecode_pl.coding import GreedyCoder, LassoCoder
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import CoActivity
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.measurement.truth import TRUTH_SCORES, truth_scores
from sparsecode_pl.metrics.functional import average_coefficient_norm
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import score

LABELS = ["true features, greedy", "true features, exact"]


def test_the_true_features_score_best(make_data):
    data = make_data(noise=0.0, num_features=8, active=0.8)
    truth, order = data.source.ground_truth, torch.randperm(8, generator=torch.Generator().manual_seed(0))
    mean = (truth.codes.to_dense() @ truth.features).mean(0)
    known = Dictionary(truth.features[order], centre=-mean, lam=1e-3)  # the centre undoes that of the data
    scores = truth_scores(known, data.rows, truth, data.heldout_index)
    assert set(scores) == set(TRUTH_SCORES)
    assert scores["matched_recovery"] == pytest.approx(1)
    assert scores["atom_recovery"] == pytest.approx(1)
    assert scores["support_recall"] > 0.9
    assert scores["oracle_S1"] == pytest.approx(float(average_coefficient_norm(truth.codes)))
    assert scores["half_active"] == 0.4
    random = Dictionary.random(8, 16, torch.Generator().manual_seed(1), lam=1e-3)
    unlearnt = truth_scores(random, data.rows, truth, data.heldout_index)
    assert unlearnt["matched_recovery"] == pytest.approx(scores["matched_recovery_chance"], abs=0.1)
    assert unlearnt["support_recall"] < scores["support_recall"]


def test_the_support_is_that_of_the_given_rows(make_data):
    data = make_data(noise=0.0)
    truth = data.source.ground_truth
    dictionary = Dictionary(truth.features, lam=0.01)
    index = torch.tensor([3, 77, 204])
    scores = truth_scores(dictionary, data.rows, truth, index)
    codes = dictionary.encode(data.rows[index]).to_dense() > 0
    true = truth.codes.to_dense()[index] > 0
    assert scores["support_precision"] == pytest.approx(float((codes & true).sum() / codes.sum()))
    assert scores["support_recall"] == pytest.approx(float((codes & true).sum() / true.sum()))


def test_the_true_features_come_between_the_data_and_its_controls(make_data):
    data = make_data()
    subjects = prepare(SparseCodingModule(16, expansion=3), [data, make_data(seed=1)], [Gaussian()], truth=True)
    labels = [subject.label for subject in subjects]
    assert labels[1:4] == labels[5:8] == [*LABELS, "Gaussian"]
    assert all(label.startswith("SparseLinear a=1.5") for label in labels[::4])
    assert [subject.control_of for subject in subjects] == [None, 0, 0, 0, None, 4, 4, 4]
    assert subjects[5].title == f"{labels[4]}, true features, greedy"
    for subject, coder in zip(subjects[1:3], (GreedyCoder, LassoCoder), strict=True):
        assert subject.data is data
        assert (subject.module.learn, subject.module.init) == (False, "truth")
        assert subject.module.dictionary.shape == (32, 16)
        assert type(subject.module.coder) is coder


def test_a_measurement_shows_what_dictionary_and_coder_cost(run, make_data):
    data = make_data()
    learnt, greedy, exact = run(SparseCodingModule(16, expansion=3), data, truth=True, evaluations=[CoActivity()])
    assert [record["data"] for record in (greedy, exact)] == LABELS
    for record in (greedy, exact):
        assert record["control_of"] == learnt["data"]
        assert torch.equal(record.dictionary.atoms, data.source.features)
        assert record["matched_recovery"] == pytest.approx(1)
        assert record["S1_ratio"] == learnt["S1"] / record["S1"]
        assert record["num_atoms"] == 32
    assert 0.2 < learnt["matched_recovery_chance"] < learnt["matched_recovery"] < 1
    for name in ("co_activity_lift", "heldout_co_activity_lift", "S1_over_independent"):
        assert math.isfinite(learnt[name])


def test_without_a_known_answer_nothing_begins(run, make_data, no_fit):
    rows = TensorActivations(torch.randn(100, 16, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(
        ValueError, match="truth is true, but activations has no known answer: leave truth out, or measure data"
    ):
        run(SparseCodingModule(16), [make_data(), rows], truth=True)


def test_co_activity_tells_trees_from_features_that_are_only_alike(make_data):
    settings = {"num_features": 60, "active": 3, "noise": 0.02, "num_samples": 3000}
    trees = {"tree_depth": 3, "tree_branching": 3, "child_probability": 0.6}
    lifts, shares = [], []
    for structure in ({}, {"cluster_size": 4, "cluster_cosine": 0.4}, trees):
        data = make_data(**settings, **structure)
        truth = data.source.ground_truth
        dictionary = Dictionary(truth.features, centre=data.rows.mean(0), lam=0.1)
        found = score(dictionary, data.rows, [CoActivity()])
        lifts.append(float(found["co_activity_lift"]))
        shares.append(float(found["S1_over_independent"]))
    independent, alike, merged = lifts
    assert merged > 1.5 * max(independent, alike)
    assert shares[2] > 1.1 * max(shares[:2])


def test_without_half_active_the_other_scores_are_there(make_data):
    data = make_data(zipf=1.0)
    truth = data.source.ground_truth
    scores = truth_scores(Dictionary(truth.features, lam=0.01), data.rows, truth, data.heldout_index)
    assert set(scores) == set(TRUTH_SCORES) - {"half_active"}


def test_the_support_of_held_out_rows_is_coded_at_their_penalty(run, make_data):
    data = make_data(noise=0.3)
    (record,) = run(SparseCodingModule(16, expansion=4), data, explained_variance=0.9)
    dictionary = record.dictionary
    assert dictionary.lam == pytest.approx(record["lam"])
    assert record["heldout_lam"] < record["lam"]

    def recall(lam):
        dictionary.lam = lam
        return truth_scores(dictionary, data.rows, data.source.ground_truth, data.heldout_index)["support_recall"]

    assert record["support_recall"] == pytest.approx(recall(record["heldout_lam"]))
    assert record["support_recall"] != pytest.approx(recall(record["lam"]))
