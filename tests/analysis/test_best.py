import numpy as np
import pytest

from sparsecode_pl.analysis.best import BestPerAtom, random_priority

M, N, K = 7, 900, 4


@pytest.fixture
def entries():
    """Entries of a sparse matrix in the order of its rows, with many equal priorities."""
    random = np.random.default_rng(0)
    matrix = random.integers(0, 6, (N, M)).astype(np.float32) * (random.random((N, M)) < 0.4)
    row, atom = np.nonzero(matrix)
    return row, atom, matrix[row, atom]


def _around(row, atom):
    """Something that tells which entry it belongs to."""
    return lambda chosen: np.stack([row[chosen], atom[chosen]], axis=1).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 13, 100_000])
def test_the_k_best_of_each_atom_are_kept_whatever_the_batches(entries, batch, monkeypatch):
    monkeypatch.setattr("sparsecode_pl.analysis.best._LEAST_WAITING", 5)
    row, atom, value = entries
    best = BestPerAtom(M, K, width=2)
    for start in range(0, len(row), batch):
        r, a, v = (part[start : start + batch] for part in (row, atom, value))
        best.add(a, v.astype(float), r, v, _around(r, a))
    best.finish()
    for one in range(M):
        expected = sorted(((-v, r) for r, a, v in zip(row, atom, value, strict=True) if a == one))[:K]
        assert best.rows[one].tolist() == [r for _, r in expected]
        assert best.values[one].tolist() == [-v for v, _ in expected]
        assert best.around[one].tolist() == [[r, one] for _, r in expected]


def test_an_atom_with_fewer_entries_has_places_left(entries):
    best = BestPerAtom(3, 2, width=0)
    best.add(
        np.array([1]), np.ones(1), np.array([5]), np.ones(1, np.float32), lambda chosen: np.zeros((len(chosen), 0))
    )
    best.finish()
    assert best.rows.tolist() == [[-1, -1], [5, -1], [-1, -1]]
    assert np.isnan(best.values).sum() == 5


def test_what_is_around_is_asked_only_of_entries_that_may_be_kept(entries):
    row, atom, value = entries
    best, asked = BestPerAtom(M, K, width=2), []

    def around(chosen):
        asked.append(len(chosen))
        return _around(row, atom)(chosen)

    best.add(atom, value.astype(float), row, value, around)
    assert asked == [M * K]
    best.finish()
    best.add(atom, np.zeros(len(atom)), row + N, value, around)
    assert asked == [M * K]


def test_random_priorities_are_uniform_and_independent_of_their_neighbours():
    row, atom = np.divmod(np.arange(200_000), 200)
    drawn = random_priority(row, atom)
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert np.abs(np.histogram(drawn, 20, (0, 1))[0] / len(drawn) - 0.05).max() < 0.002
    assert len(np.unique(drawn)) == len(drawn)
    for shift in (1, 200):
        assert abs(np.corrcoef(drawn[shift:], drawn[:-shift])[0, 1]) < 0.01
    assert random_priority(row[:5], atom[:5]).tolist() == drawn[:5].tolist()
