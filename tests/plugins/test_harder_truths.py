"""Known statistics of `SparseLinear` with frequencies, magnitudes, groups, trees and clusters."""

import hashlib
import math

import numpy as np
import pytest
import torch
from sparsecode_synthetic import SparseLinear

N = 20_000
EVERYTHING = {"zipf": 0.5, "log_std": 0.8, "group_size": 3, "group_lift": 2.0, "tree_depth": 3, "tree_branching": 2}


def _data(**settings) -> SparseLinear:
    return SparseLinear(**{"d_model": 16, "num_features": 60, "active": 4.0, "noise": 0, "num_samples": N, **settings})


def _mask(data: SparseLinear) -> torch.Tensor:
    return data.source.ground_truth.codes.to_dense() > 0


def test_by_default_the_data_are_those_of_the_first_version():
    # Integers and float32 draws without arithmetic on them, which are the same on every machine.
    codes = SparseLinear(d_model=24, num_features=100, active=3.7, num_samples=300).source.ground_truth.codes
    parts = (codes.crow_indices(), codes.col_indices(), codes.values())
    digests = [hashlib.sha256(part.numpy().tobytes()).hexdigest()[:16] for part in parts]
    assert digests == ["7e17befe2d8f762f", "c404c74bae0f6980", "ce0c4c3152e10215"]
    assert SparseLinear(d_model=24, num_features=100).label == "SparseLinear a=5"


@pytest.mark.parametrize(
    "settings",
    [
        {"zipf": 1.0},
        {"zipf": 2.0},  # the most frequent features are active in every row
        {"group_size": 5, "group_lift": 6.0},
        {"tree_depth": 3, "tree_branching": 3, "child_probability": 0.3},  # four trees of 13, and one cut off at 8
        EVERYTHING,
    ],
)
def test_active_is_the_mean_number_of_active_features(settings):
    data = _data(**settings)
    counts = _mask(data).sum(1).double()
    assert float(counts.mean()) == pytest.approx(4, abs=5 * float(counts.std()) / N**0.5)
    probabilities = data.source._supports.probabilities
    assert float(probabilities.sum()) == pytest.approx(4)
    assert float(probabilities.max()) <= 1
    np.testing.assert_allclose(_mask(data).double().mean(0), probabilities, atol=5 * (0.25 / N) ** 0.5)


def test_frequencies_follow_zipfs_law():
    frequency = _mask(_data(zipf=1.2, active=1.0, num_samples=50_000)).double().mean(0)
    rank = torch.arange(1, 31).double()
    slope = np.polyfit(rank.log(), frequency[:30].log(), 1)[0]
    assert slope == pytest.approx(-1.2, abs=0.05)


def test_log_normal_magnitudes():
    values = _data(log_std=0.7).source.ground_truth.codes.values().double()
    assert float(values.mean()) == pytest.approx(0.5, rel=0.02)
    assert float(values.log().std()) == pytest.approx(0.7, rel=0.02)
    assert float(values.log().mean()) == pytest.approx(math.log(0.5) - 0.7**2 / 2, abs=0.02)
    quarter = (values.log() - values.log().mean() > 0.7).double().mean()
    assert float(quarter) == pytest.approx(0.1587, abs=0.01)  # of a normal distribution
    assert set(_data(log_std=0.0).source.ground_truth.codes.values().tolist()) == {0.5}


def test_features_of_a_group_are_active_together_as_often_as_the_lift_says():
    mask = _mask(_data(group_size=3, group_lift=5.0, num_samples=50_000)).double()
    together = mask.T @ mask / len(mask)
    lift = together / torch.outer(mask.mean(0), mask.mean(0))
    group = torch.arange(60) // 3
    same = (group[:, None] == group) & ~torch.eye(60, dtype=torch.bool)
    assert float(lift[same].mean()) == pytest.approx(5, rel=0.03)
    assert float(lift[group[:, None] != group].mean()) == pytest.approx(1, rel=0.03)
    assert float(lift[same].std()) < 0.6


def test_a_child_is_active_only_with_its_parent():
    data = _data(tree_depth=3, tree_branching=2, child_probability=0.35, num_features=56)
    mask, parents = _mask(data), data.source._supports.parents
    assert parents[:7].tolist() == [-1, 0, 0, 1, 1, 2, 2]
    assert (parents < 0).sum() == 8
    children = (parents >= 0).nonzero()[:, 0]
    assert not (mask[:, children] & ~mask[:, parents[children]]).any()
    given = mask[:, children].sum() / mask[:, parents[children]].sum()
    assert float(given) == pytest.approx(0.35, abs=0.01)
    # Siblings are independent given their parent: both are active in a share of 0.35 ** 2 of its rows.
    both = (mask[:, 1::7] & mask[:, 2::7]).sum() / mask[:, 0::7].sum()
    assert float(both) == pytest.approx(0.35**2, abs=0.015)


def test_groups_of_trees_open_together():
    data = _data(**EVERYTHING, num_samples=50_000)
    mask, roots = _mask(data), (data.source._supports.parents < 0).nonzero()[:, 0]
    roots = mask[:, roots].double()
    together = roots.T @ roots / len(roots)
    lift = together / torch.outer(roots.mean(0), roots.mean(0))
    assert float(lift[0, 1:3].mean()) == pytest.approx(2, rel=0.05)
    assert float(lift[:3, 3:6].mean()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("num_features", [60, 58])  # the last cluster may be cut off
def test_features_of_a_cluster_have_the_cosine(num_features):
    features = _data(cluster_size=4, cluster_cosine=0.6, num_features=num_features).source.features.double()
    np.testing.assert_allclose(features.norm(dim=1), 1, atol=1e-6)
    cluster = torch.arange(num_features) // 4
    same = (cluster[:, None] == cluster) & ~torch.eye(num_features, dtype=torch.bool)
    cosines = features @ features.T
    np.testing.assert_allclose(cosines[same], 0.6, atol=1e-5)
    assert abs(float(cosines[cluster[:, None] != cluster].mean())) < 0.05


def test_features_in_clusters_are_uniform_on_the_sphere():
    data = SparseLinear(d_model=8, num_features=20_000, cluster_size=2, cluster_cosine=0.5, num_samples=2)
    features = data.source.features.double()
    np.testing.assert_allclose(features.mean(0), 0, atol=8 * (1 / 8 / 20_000) ** 0.5)
    np.testing.assert_allclose(features.T @ features / 20_000, np.eye(8) / 8, atol=0.01)
    assert float((features**4).mean()) == pytest.approx(3 / 80, rel=0.03)


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["default", "everything"])
def test_streamed_rows_are_centred_by_their_expectation(settings):
    fresh = _data(**settings).draw(50_000, torch.Generator().manual_seed(3)).double()
    np.testing.assert_allclose(fresh.mean(0) / fresh.std(0), 0, atol=5 / 50_000**0.5)


def test_the_label_says_what_is_not_as_usual():
    assert _data(**EVERYTHING, cluster_size=2, cluster_cosine=0.5).label == (
        "SparseLinear a=4, zipf 0.5, groups of 3 with lift 2, trees 2^2 at 0.4, log-normal 0.8, "
        "clusters of 2 at cosine 0.5"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zipf": -1}, "zipf is -1: give a finite exponent of at least 0"),
        ({"log_std": -0.1}, "log_std is -0.1: give a finite number of at least 0, or None"),
        ({"group_size": 4}, "group_size is 4 and group_lift 1: give both above 1, or neither"),
        ({"group_lift": 2.0}, "group_size is 1 and group_lift 2: give both above 1, or neither"),
        ({"group_size": 4, "group_lift": 0.5}, "group_lift is 0.5: give a finite number of at least 1"),
        ({"group_size": 4, "group_lift": 20.0}, r"group_lift is 20, but .* in 0.0667 of the rows: give at most 15,"),
        ({"tree_depth": 0}, "tree_depth is 0: give at least 1"),
        ({"tree_depth": 2, "tree_branching": 0}, "tree_branching is 0: give at least 1"),
        ({"tree_depth": 2, "child_probability": 0.0}, r"child_probability is 0.0: give a probability in \(0, 1\]"),
        (
            {"tree_depth": 2, "tree_branching": 2, "child_probability": 0.25, "active": 31},
            "active is 31: give .* at most 30, the most that such trees have",
        ),
        ({"cluster_size": 16, "cluster_cosine": 0.5}, "cluster_size is 16, and d_model 16: give less than d_model"),
        ({"cluster_size": 2, "cluster_cosine": 1.0}, r"cluster_cosine is 1.0: give a cosine in \[0, 1\)"),
        ({"cluster_cosine": 0.5}, "cluster_cosine is 0.5, and cluster_size 1: give at least 2"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        _data(**settings)
