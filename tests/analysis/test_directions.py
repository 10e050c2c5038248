import torch
from torch.nn.functional import normalize

from sparsecode_pl.analysis import directions
from sparsecode_pl.analysis.directions import nearest, promoted_tokens, stability
from sparsecode_pl.data import generator


def _atoms(m=11, d=5, seed=0):
    return normalize(torch.randn(m, d, generator=generator(seed)), dim=1)


def test_the_nearest_atoms_are_those_of_the_whole_gram_matrix(monkeypatch):
    monkeypatch.setattr(directions, "_BLOCK", 4)
    atoms = _atoms()
    number, cosine = nearest(atoms, k=3)
    gram = atoms @ atoms.T - 3 * torch.eye(11)
    best = gram.topk(3, dim=1)
    assert torch.equal(number, best.indices)
    torch.testing.assert_close(cosine, best.values)


def test_two_atoms_have_one_neighbour_each():
    number, _ = nearest(torch.eye(2), k=5)
    assert number.tolist() == [[1], [0]]


def test_a_dictionary_is_found_again_in_its_permutation_and_less_in_another():
    atoms = _atoms(40, 16)
    again, chance = stability(atoms, [atoms.flip(0)])
    torch.testing.assert_close(again, torch.ones(40))
    other, _ = stability(atoms, [_atoms(40, 16, seed=1)])
    assert abs(float(other.mean()) - chance) < 0.06
    both, _ = stability(atoms, [atoms, _atoms(40, 16, seed=1)])
    torch.testing.assert_close(both, (again + other) / 2)


def test_promoted_tokens_are_those_of_the_largest_logits_about_their_mean():
    weight, atoms = torch.randn(9, 5, generator=generator(2)), _atoms()
    tokens, values = promoted_tokens(atoms, lambda part: part @ weight.T + 7, k=2)
    logits = atoms @ weight.T
    logits = logits - logits.mean(1, keepdim=True)
    order = logits.argsort(dim=1)
    assert torch.equal(tokens, torch.cat([order.flip(1)[:, :2], order[:, [1, 0]]], dim=1))
    torch.testing.assert_close(values, logits.gather(1, tokens), atol=1e-5, rtol=0)


def test_atoms_that_do_not_write_to_the_output_promote_nothing():
    assert promoted_tokens(_atoms(), lambda part: None) is None
