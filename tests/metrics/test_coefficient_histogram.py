import numpy as np
import pytest
import torch

from sparsecode_pl.metrics import CoefficientHistogram
from sparsecode_pl.metrics.functional import coefficient_histogram


def test_edges_are_evenly_spaced_on_a_logarithmic_axis():
    np.testing.assert_allclose(CoefficientHistogram().edges, np.geomspace(1e-3, 1e3, 61), rtol=1e-12)


def test_values_beyond_the_edges_go_in_the_end_bins():
    codes = torch.tensor([[1e-9, 0.5, 2.0], [50.0, 1e9, 1e30]])
    assert coefficient_histogram(codes, lam=1.0, num_bins=3, low=0.1, high=100).tolist() == [2, 1, 3]


def test_every_coefficient_is_counted_once_in_units_of_its_penalty():
    metric = CoefficientHistogram(num_bins=3, low=1, high=1000)
    metric.update(codes=torch.tensor([[5.0, 0.0]]), lam=1.0)
    metric.update(codes=torch.tensor([[5.0, 5.0]]), lam=0.1)
    metric.update(codes=torch.tensor([[0.0, 5.0]]), lam=0.01)
    assert metric.compute().tolist() == [1, 2, 1]


def test_a_single_bin_holds_all():
    assert coefficient_histogram(torch.eye(3), lam=1.0, num_bins=1).tolist() == [3]


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ({"num_bins": 0}, "num_bins is 0: give at least 1"),
        ({"low": 0.0}, "low is 0.0 and high is 1000.0: give finite 0 < low < high"),
        ({"low": 2.0, "high": 1.0}, "low is 2.0 and high is 1.0: give finite 0 < low < high"),
        ({"high": float("inf")}, "high is inf: give finite 0 < low < high"),
    ],
)
def test_wrong_bins_are_refused(bins, message):
    with pytest.raises(ValueError, match=message):
        CoefficientHistogram(**bins)
    with pytest.raises(ValueError, match=message):
        coefficient_histogram(torch.eye(2), lam=1.0, **bins)
