from itertools import permutations

import pytest
import torch
from torch.nn.functional import normalize

from sparsecode_pl.metrics.functional import atom_recovery, atom_stability, match_atoms, matching_by_chance


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
def test_no_matching_is_better(seed):
    true_atoms, atoms = draw(4, 3, seed=seed), draw(6, 3, seed=100 + seed)
    cosines = normalize(true_atoms.double()) @ normalize(atoms.double()).T
    best = max(sum(cosines[row, place] for row, place in enumerate(chosen)) for chosen in permutations(range(6), 4))
    matching = match_atoms(3 * true_atoms, 0.1 * atoms)
    assert float(matching.mean_cosine) == pytest.approx(float(best) / 4)
    assert len(matching.atoms.unique()) == 4
    torch.testing.assert_close(matching.cosines, cosines[torch.arange(4), matching.atoms])


def test_atoms_in_another_order_are_found():
    true_atoms, order = draw(50, 16), torch.randperm(50, generator=torch.Generator().manual_seed(1))
    matching = match_atoms(true_atoms, true_atoms[order])
    assert torch.equal(order[matching.atoms], torch.arange(50))
    assert float(matching.mean_cosine) == pytest.approx(1)


def test_an_atom_between_two_features_counts_once():
    true_atoms, merged = torch.eye(2), torch.tensor([[1.0, 1.0]])
    matching = match_atoms(true_atoms, merged)
    assert sorted(matching.atoms.tolist()) == [-1, 0]
    assert float(matching.mean_cosine) == pytest.approx(0.5**0.5 / 2)
    assert float(atom_recovery(true_atoms, merged).mean_max_cosine) == pytest.approx(0.5**0.5)


def test_zero_atoms_are_like_nothing():
    assert float(match_atoms(torch.eye(2), torch.tensor([[0.0, 0.0], [0.0, 1.0]])).mean_cosine) == 0.5


def test_chance_is_that_of_an_untrained_dictionary():
    true_atoms = draw(256, 32)
    by_chance = matching_by_chance(true_atoms, 256)
    assert torch.equal(by_chance.atoms, matching_by_chance(true_atoms, 256).atoms)
    others = [float(match_atoms(true_atoms, draw(256, 32, seed=seed)).mean_cosine) for seed in (7, 8)]
    assert float(by_chance.mean_cosine) == pytest.approx(others[0], abs=0.02)
    assert others[1] == pytest.approx(others[0], abs=0.02)
    # No matching is better than the best match of each, and the latter is well above 0 in few dimensions.
    assert 0.3 < others[0] < float(atom_recovery(true_atoms, draw(256, 32, seed=7)).mean_max_cosine)


def test_stability():
    one, noise = draw(40, 8), draw(40, 8, seed=1)
    same = atom_stability([one, one.flip(0), 2 * one])
    assert float(same.mean_cosine) == pytest.approx(1)
    assert 0.3 < float(same.chance) < 0.9
    unrelated = atom_stability([one, noise])
    assert float(unrelated.mean_cosine) == pytest.approx(float(unrelated.chance), abs=0.05)
    # Each pair counts alike: one pair is equal, and two are unrelated.
    assert float(atom_stability([one, one, noise]).mean_cosine) == pytest.approx(
        (1 + 2 * float(unrelated.mean_cosine)) / 3
    )
    assert float(atom_stability([one, one[:10]]).mean_cosine) == pytest.approx(1)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"atoms \(3, 5\): give matrices"):
        match_atoms(torch.eye(4), torch.ones(3, 5))
    with pytest.raises(ValueError, match="dictionaries are 1: give at least two"):
        atom_stability([torch.eye(4)])
