import numpy as np
import pytest
import torch
from sparsecode_synthetic import SparseLinear, supports

N, D, M, A, NOISE = 20_000, 32, 64, 4.0, 0.3


@pytest.fixture(scope="module")
def data() -> SparseLinear:
    return SparseLinear(d_model=D, num_features=M, active=A, noise=NOISE, num_samples=N)


@pytest.fixture(scope="module")
def codes(data) -> torch.Tensor:
    return data.source.ground_truth.codes.to_dense()


def test_features_are_uniform_on_the_sphere():
    features = SparseLinear(d_model=8, num_features=10_000).source.features.double()
    np.testing.assert_allclose(features.norm(dim=1), 1, atol=1e-6)
    np.testing.assert_allclose(features.mean(0), 0, atol=5 * (1 / 8 / 10_000) ** 0.5)
    np.testing.assert_allclose(features.T @ features / 10_000, np.eye(8) / 8, atol=0.01)
    # For the sphere in 8 dimensions E f_i^4 = 3 / (8 * 10); for the cube, say, it would differ.
    assert float((features**4).mean()) == pytest.approx(3 / 80, rel=0.03)


def test_the_number_of_active_features_is_binomial(codes):
    counts = (codes > 0).sum(1).double()
    p = A / M
    assert float(counts.mean()) == pytest.approx(A, abs=5 * (M * p * (1 - p) / N) ** 0.5)
    assert float(counts.var()) == pytest.approx(M * p * (1 - p), rel=0.05)
    per_feature = (codes > 0).double().mean(0)
    np.testing.assert_allclose(per_feature, p, atol=5 * (p / N) ** 0.5)
    together = torch.cov((codes > 0).double().T)
    np.testing.assert_allclose(together - together.diag().diag(), 0, atol=5 * p / N**0.5)


def test_coefficients_are_uniform(data):
    values = data.source.ground_truth.codes.values()
    assert 0 < float(values.min()) < 0.001
    assert 0.999 < float(values.max()) <= 1
    deciles = torch.histc(values, bins=10, min=0, max=1) / len(values)
    np.testing.assert_allclose(deciles, 0.1, atol=5 * (0.09 / len(values)) ** 0.5)


def test_rows_are_the_centred_sums_plus_noise(data, codes):
    sums = codes.double() @ data.source.ground_truth.features.double()
    noise = data.rows.double() - (sums - sums.mean(0))
    variance = A * NOISE**2 / D
    np.testing.assert_allclose(noise.mean(0), 0, atol=5 * (variance / N) ** 0.5)
    np.testing.assert_allclose(torch.cov(noise.T), variance * np.eye(D), atol=5 * variance * (2 / N) ** 0.5)
    assert float((noise**4).mean()) == pytest.approx(3 * variance**2, rel=0.03)


def test_without_noise_the_rows_are_the_centred_sums():
    data = SparseLinear(d_model=D, noise=0, num_samples=500)
    sums = data.source.ground_truth.codes.to_dense() @ data.source.features
    torch.testing.assert_close(data.rows, sums - sums.mean(0))
    np.testing.assert_allclose(data.rows.mean(0), 0, atol=1e-6)


def test_codes_drawn_in_many_chunks_are_sound(monkeypatch):
    monkeypatch.setattr(supports, "_DENSE_ENTRIES", 7 * M)
    data = SparseLinear(d_model=D, num_features=M, active=A, noise=0, num_samples=2000)
    codes = data.source.ground_truth.codes
    torch.sparse_csr_tensor(
        codes.crow_indices(), codes.col_indices(), codes.values(), codes.shape, check_invariants=True
    )
    dense = codes.to_dense()
    torch.testing.assert_close(data.rows, dense @ data.source.features - (dense @ data.source.features).mean(0))
    assert float((dense > 0).sum(1).double().mean()) == pytest.approx(A, abs=5 * (A / 2000) ** 0.5)
    assert len(dense.unique(dim=0)) > 1900  # no chunk repeats another


def test_the_stream_has_the_distribution_of_the_rows(data, covariance):
    fresh = data.draw(N, torch.Generator().manual_seed(1))
    spread = float(data.rows.var())
    np.testing.assert_allclose(fresh.mean(0), 0, atol=5 * (2 * spread / N) ** 0.5)
    np.testing.assert_allclose(covariance(fresh), covariance(data.rows), atol=8 * spread * (2 / N) ** 0.5)
    # Centred by the expectation, not by the mean of what is drawn: one row is not zero.
    assert float(data.draw(1, torch.Generator().manual_seed(1)).norm()) > 0.1


def test_all_data_of_a_seed_share_the_features():
    small = SparseLinear(d_model=16, num_features=4, active=1, noise=0, num_samples=100)
    stream = SparseLinear(d_model=16, num_features=4, active=2, noise=0, num_samples=300, stream=True, batch_size=64)
    assert torch.equal(small.source.features, stream.source.features)
    assert not torch.equal(
        small.source.features, SparseLinear(d_model=16, num_features=4, active=1, seed=1).source.features
    )
    outside = torch.eye(16) - torch.linalg.pinv(small.source.features) @ small.source.features
    for rows in (small.rows, stream.rows, stream.train_batch(0, 0)):
        np.testing.assert_allclose(rows @ outside, 0, atol=1e-5)


def test_streamed_batches_differ_and_are_reproducible():
    one, two = (SparseLinear(d_model=8, num_samples=50, stream=True, batch_size=16) for _ in range(2))
    places = [(epoch, index) for epoch in range(2) for index in range(2)]
    batches = [one.train_batch(*place) for place in places]
    assert all(torch.equal(batch, two.train_batch(*place)) for batch, place in zip(batches, places, strict=True))
    assert len(torch.cat([*batches, one.rows]).unique(dim=0)) == 4 * 16 + 50
    assert torch.equal(one.rows, SparseLinear(d_model=8, num_samples=50).rows)


def test_ground_truth_and_label():
    data = SparseLinear(d_model=8, active=2.5, num_samples=10)
    assert data.num_features == 32
    assert data.source.ground_truth.half_active == 1.25
    assert data.source.ground_truth.codes.layout == torch.sparse_csr
    assert data.label == "SparseLinear a=2.5"
    assert SparseLinear().label == "SparseLinear a=5"


@pytest.mark.parametrize(
    "harder",
    [
        {"zipf": 1},
        {"log_std": 0.5},
        {"group_size": 2, "group_lift": 4},
        {"tree_depth": 2},
        {"cluster_size": 2, "cluster_cosine": 0.5},
    ],
)
def test_the_paper_says_nothing_of_harder_data(harder):
    data = SparseLinear(d_model=8, active=1, num_samples=10, **harder)
    assert data.source.ground_truth.half_active is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"active": 0}, "active is 0: give a number above 0"),
        ({"active": 65, "d_model": 16}, "active is 65: give .* at most num_features, 64"),
        ({"active": float("nan")}, "active is nan: give"),
        ({"noise": -0.1}, "noise is -0.1: give"),
        ({"noise": float("inf")}, "noise is inf: give"),
        ({"num_features": 0}, "num_features is 0: give at least 1"),
        ({"d_model": 0}, "d_model is 0: give at least 1"),
        ({"num_samples": 1}, "num_samples is 1: give at least 2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseLinear(**arguments)


def test_more_rows_than_memory_holds_fail_before_any_is_drawn():
    with pytest.raises(RuntimeError, match="allocate memory"):  # which the command line says in a line
        _ = SparseLinear(d_model=4, num_samples=10**15).rows
