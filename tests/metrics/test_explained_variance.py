import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sparsecode_pl.metrics import ExplainedVariance
from sparsecode_pl.metrics.functional import explained_variance


def centred(seed=0):
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x - x.mean(dim=0)


def test_perfect_reconstruction_explains_all_and_the_mean_nothing():
    x = centred() + 7
    assert explained_variance(torch.zeros_like(x), x) == 1
    assert_close(explained_variance(x - x.mean(dim=0), x).item(), 0.0)


def test_a_shift_of_x_changes_nothing():
    x = centred()
    residual = 0.1 * centred(seed=1)
    assert_close(explained_variance(residual, x + 1e4), explained_variance(residual, x), rtol=1e-6, atol=0)


def test_float32_far_from_centred_in_many_batches():
    x = (centred() + 1e4).float()
    residual = 0.3 * centred(seed=1).float()
    metric = ExplainedVariance()
    for part, of_x in zip(residual.split(7), x.split(7), strict=True):
        metric.update(residual=part, x=of_x)
    x64 = x.double().numpy()
    answer = 1 - np.square(residual.double().numpy()).sum() / np.square(x64 - x64.mean(axis=0)).sum()
    assert_close(metric.compute().item(), answer, rtol=1e-7, atol=0)


@pytest.mark.parametrize("rows", [1, 3])
def test_nothing_to_explain(rows):
    x = torch.tensor([[0.1, 123.4]]).expand(rows, 2)
    assert explained_variance(torch.ones(rows, 2), x).isnan()
    assert explained_variance(torch.zeros(rows, 2), x).isnan()


@pytest.mark.parametrize("shape", [(3, 5), (3,), (2, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"residual has shape .*, but x \(3, 4\): give both as \(n, d\)"):
        explained_variance(torch.zeros(shape), torch.zeros(3, 4))
