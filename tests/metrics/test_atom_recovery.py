import importlib

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sparsecode_pl.metrics import AtomRecovery
from sparsecode_pl.metrics.functional import atom_recovery


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answer(true_atoms, atoms, threshold):
    """Plain NumPy."""
    a, b = true_atoms.double().numpy(), atoms.double().numpy()
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    best = cosines.max(axis=1)
    return best.mean(), (best > threshold).mean()


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 9 * 7, 2**28])
def test_numpy_answer_however_chunked(monkeypatch, chunk_bytes):
    module = importlib.import_module("sparsecode_pl.metrics.functional.atom_recovery")
    monkeypatch.setattr(module, "_CHUNK_BYTES", chunk_bytes)
    true_atoms, atoms = 5 * draw(20, 4), 0.1 * draw(9, 4, seed=1)
    score = atom_recovery(true_atoms, atoms, threshold=0.8)
    mean, fraction = answer(true_atoms, atoms, threshold=0.8)
    assert 0 < fraction < 1
    assert_close(score.mean_max_cosine.item(), mean)
    assert score.fraction_above == fraction


def test_chunks_hold_no_more_than_they_may(monkeypatch):
    module = importlib.import_module("sparsecode_pl.metrics.functional.atom_recovery")
    monkeypatch.setattr(module, "_CHUNK_BYTES", 8 * 9 * 3)
    sizes = []
    monkeypatch.setattr(torch.Tensor, "amax", lambda self, dim: sizes.append(tuple(self.shape)) or self.max(dim).values)
    atom_recovery(draw(7, 4), draw(9, 4, seed=1))
    assert sizes == [(3, 9), (3, 9), (1, 9)]


def test_order_and_length_do_not_matter_but_sign_does():
    true_atoms = torch.eye(4)
    found = atom_recovery(true_atoms, 3 * true_atoms.flip(0))
    assert (found.mean_max_cosine, found.fraction_above) == (1, 1)
    missed = atom_recovery(true_atoms, -true_atoms)
    assert (missed.mean_max_cosine, missed.fraction_above) == (0, 0)


def test_very_short_atoms_have_a_direction_and_zeros_match_nothing():
    score = atom_recovery(torch.eye(2), torch.tensor([[1e-15, 0.0], [0.0, 0.0]]))
    assert (score.mean_max_cosine, score.fraction_above) == (0.5, 0.5)


FIELDS = ("mean_max_cosine", "fraction_above")


def test_the_latest_atoms_count():
    true_atoms = draw(6, 4)
    metric = AtomRecovery(true_atoms, threshold=0.5)
    metric.update(atoms=-true_atoms)
    metric.update(atoms=true_atoms)
    assert_close({name: value.item() for name, value in metric.compute().items()}, dict.fromkeys(FIELDS, 1.0))
    # `forward` too must not average them with what came before.
    metric(atoms=draw(5, 4, seed=1))
    mean, fraction = answer(true_atoms, draw(5, 4, seed=1), threshold=0.5)
    assert_close(metric.compute()["mean_max_cosine"].item(), mean)
    assert metric.compute()["fraction_above"] == fraction


def test_before_the_first_atoms():
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert all(value.isnan() for value in AtomRecovery(torch.eye(2)).compute().values())


def test_casting_the_module_keeps_the_true_atoms():
    true_atoms, atoms = draw(6, 4), draw(5, 4, seed=1)
    module = torch.nn.Module()
    module.recovery = AtomRecovery(true_atoms)
    module.to(torch.bfloat16)
    module.recovery.update(atoms=atoms)
    assert module.recovery.compute()["mean_max_cosine"] == atom_recovery(true_atoms, atoms).mean_max_cosine


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_true_atoms_without_direction_are_refused(value):
    true_atoms = torch.ones(4, 3)
    true_atoms[2] = value
    for refuse in (AtomRecovery, lambda rows: atom_recovery(rows, torch.eye(3))):
        with pytest.raises(ValueError, match=r"true_atoms: 1 of 4 rows have no direction \(first: row 2.*drop them"):
            refuse(true_atoms)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"atoms have shape \(5, 4\), but true_atoms have width 3: give \(m, 3\)"):
        atom_recovery(torch.eye(3), torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"atoms have shape \(0, 3\)"):
        atom_recovery(torch.eye(3), torch.ones(0, 3))
    with pytest.raises(ValueError, match=r"true_atoms have shape \(3,\): give a matrix \(f, d\)"):
        atom_recovery(torch.ones(3), torch.eye(3))


def test_a_threshold_that_is_no_cosine_is_refused():
    with pytest.raises(ValueError, match=r"threshold is 90: give a cosine similarity in \[-1, 1\]"):
        AtomRecovery(torch.eye(3), threshold=90)
