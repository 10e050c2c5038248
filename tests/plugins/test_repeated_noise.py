import numpy as np
import pytest
import torch
from sparsecode_synthetic import RepeatedNoise

from sparsecode_pl.data import distinct_rows

D, N = 16, 20_000


@pytest.fixture(scope="module")
def data() -> RepeatedNoise:
    return RepeatedNoise(d_model=D, num_types=4000, exponent=1.0, num_samples=N)


def _types(data: RepeatedNoise) -> torch.Tensor:
    return data.source.columns["token_id"]


def test_each_type_is_one_vector(data):
    types, rows = _types(data), distinct_rows(data.rows)
    assert int(rows.max()) + 1 == len(types.unique())
    assert len(torch.stack([types, rows]).unique(dim=1).T) == len(types.unique())
    torch.testing.assert_close(data.rows, data.source.vectors[types])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_types_follow_zipfs_law(exponent):
    counts = _types(RepeatedNoise(num_types=50, exponent=exponent, num_samples=N)).bincount(minlength=50).double()
    expected = torch.arange(1, 51).double() ** -exponent
    expected *= N / expected.sum()
    assert float(((counts - expected) ** 2 / expected).sum()) < 85.4  # chi-square with 49 degrees of freedom, 0.1 %


def test_the_vectors_are_isotropic_noise_of_mean_square_norm_one(data):
    vectors = data.source.vectors.double()
    np.testing.assert_allclose(torch.cov(vectors.T), np.eye(D) / D, atol=5 / D * (2 / 4000) ** 0.5)
    assert float((vectors**4).mean()) == pytest.approx(3 / D**2, rel=0.05)


def test_held_out_rows_are_of_types_that_were_not_trained_on(data):
    types = _types(data)
    assert not torch.isin(types[data.heldout_index], types[data.train_index]).any()
    assert data.split.heldout_is_unseen
    assert len(data.heldout_index) == pytest.approx(N / 10, rel=0.01)


def test_the_seed_decides_all_of_it(data):
    same, other = (RepeatedNoise(d_model=D, num_types=4000, num_samples=N, seed=seed) for seed in (0, 1))
    assert torch.equal(same.rows, data.rows)
    assert torch.equal(_types(same), _types(data))
    assert not torch.equal(other.source.vectors, data.source.vectors)
    assert not torch.equal(_types(other), _types(data))
    before = data.rows.clone()
    data.release()
    assert torch.equal(data.rows, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 0}, "d_model is 0: give at least 1"),
        ({"num_types": 1}, "num_types is 1: give at least 2"),
        ({"num_samples": 1}, "num_samples is 1: give at least 2"),
        ({"exponent": -1.0}, "exponent is -1.0: give a finite number of at least 0"),
        ({"exponent": float("inf")}, "exponent is inf"),
    ],
)
def test_what_is_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RepeatedNoise(**settings)
