import numpy as np
import pytest

from sparsecode_pl.analysis.token_shares import TokenShares

M, V = 5, 400


@pytest.fixture
def activations():
    """Atoms, tokens by Zipf's law, and coefficients."""
    random = np.random.default_rng(0)
    token = np.minimum(random.zipf(1.3, 20_000) - 1, V - 1)
    return random.integers(0, M, 20_000), token, random.random(20_000)


def _true_sums(atom, token, weight):
    sums = np.zeros((M, V))
    np.add.at(sums, (atom, token), weight)
    return sums


def _added(activations, size, batch):
    shares = TokenShares(M, size)
    for start in range(0, len(activations[0]), batch):
        shares.add(*(part[start : start + batch] for part in activations))
    return shares


def test_sums_are_exact_while_there_is_a_place_for_each_token(activations):
    shares = _added(activations, size=V, batch=700)
    token, weight = shares.largest()
    sums = _true_sums(*activations)
    assert token.tolist() == sums.argmax(1).tolist()
    np.testing.assert_allclose(weight, sums.max(1))
    assert (shares.missed == 0).all()


@pytest.mark.parametrize("size", [3, 16])
def test_with_fewer_places_the_truth_is_between_the_bounds(activations, size, monkeypatch):
    monkeypatch.setattr("sparsecode_pl.analysis.token_shares._LEAST_WAITING", 50)
    shares = _added(activations, size, batch=100)
    token, weight = shares.largest()
    sums = _true_sums(*activations)
    found = sums[np.arange(M), token]
    assert (shares.missed > 0).all()
    assert (shares.missed <= sums.sum(1) / (size + 1) + 1e-9).all()
    assert (weight <= found + 1e-9).all()
    assert (found <= weight + shares.missed + 1e-9).all()
    assert (sums.max(1) <= weight + shares.missed + 1e-9).all()


def test_an_atom_without_activations_has_no_token():
    token, weight = TokenShares(2).largest()
    assert token.tolist() == [-1, -1]
    assert weight.tolist() == [0, 0]
