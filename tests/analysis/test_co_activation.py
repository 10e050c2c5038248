import numpy as np
from scipy.sparse import csr_array

from sparsecode_pl.analysis import co_activation
from sparsecode_pl.analysis.co_activation import partners


def test_partners_are_those_of_a_dense_count(monkeypatch):
    monkeypatch.setattr(co_activation, "_BLOCK", 4)
    random = np.random.default_rng(0)
    active = random.random((400, 10)) < np.linspace(0.02, 0.5, 10)
    active[:, 3] = active[:, 9] & (random.random(400) < 0.9)
    atom, jaccard, lift = partners(csr_array(active.astype(np.float32)), k=3)
    together = active.T.astype(int) @ active.astype(int)
    count = active.sum(0)
    for one in range(10):
        similar = {
            other: together[one, other] / (count[one] + count[other] - together[one, other])
            for other in range(10)
            if other != one and together[one, other] >= 5
        }
        expected = sorted(similar, key=lambda other: (-similar[other], other))[:3]
        found = [other for other in atom[one].tolist() if other >= 0]
        assert found == expected
        np.testing.assert_allclose(jaccard[one, : len(found)], [similar[other] for other in found])
        by_hand = [together[one, other] * 400 / (count[one] * count[other]) for other in found]
        np.testing.assert_allclose(lift[one, : len(found)], by_hand)
    assert atom[3, 0] == 9


def test_without_rows_there_are_no_partners():
    atom, jaccard, _ = partners(csr_array((0, 3), dtype=np.float32))
    assert (atom == -1).all()
    assert np.isnan(jaccard).all()


def test_only_so_many_pairs_are_counted(monkeypatch):
    monkeypatch.setattr(co_activation, "_MOST_PAIRS", 4 * 6)
    active = csr_array(np.repeat([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], 6, axis=0).astype(np.float32))
    atom, _, _ = partners(active, k=1)
    assert atom.tolist() == [[1], [0], [-1]]  # the last six rows are not looked at
