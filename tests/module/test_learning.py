import numpy as np
import pytest
import torch
from lightning import Callback

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.metrics.functional import atom_recovery
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08
BATCHES = 12


def test_alternation_lowers_the_objective_of_held_out_rows(data, diary, fit, standardised, objective):
    module = SparseCodingModule(16, expansion=4, lam=LAM)
    fit(module, data, diary)
    x = standardised(module, data.rows[data.heldout_index])
    learnt = objective(x, module.dictionary.atoms, LAM)
    assert learnt < 0.8 * objective(x, diary.first, LAM)
    assert learnt < 1.15 * objective(x, data.source.features, LAM)


def test_finds_planted_atoms(small_data, fit):
    data = small_data(num_samples=2000, batch_size=256, batches_per_round=40)
    module = SparseCodingModule(16, expansion=4)
    fit(module, data, AdaptivePenalty(), max_epochs=3)
    assert atom_recovery(data.source.features, module.dictionary.atoms.detach()).mean_max_cosine > 0.97


def test_atoms_are_unit_after_every_batch(data, diary, fit):
    fit(SparseCodingModule(16, expansion=4, lam=LAM), data, diary)
    assert len(diary.atoms) == BATCHES
    for atoms in diary.atoms:
        torch.testing.assert_close(atoms.norm(dim=1), torch.ones(64), atol=1e-5, rtol=0)
    assert not torch.equal(diary.atoms[-1], diary.first)


@pytest.mark.parametrize("scale", [False, True])
def test_centre_and_scale_are_those_of_the_training_rows(scale, fit):
    rows = 5 + 3 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    data = TensorActivations(rows, val_split=0.3, batch_size=128, batches_per_round=2)
    module = SparseCodingModule(16, expansion=2, lam=LAM, scale=scale)
    fit(module, data)
    trained = rows[data.train_index].double().numpy()
    np.testing.assert_allclose(module.dictionary.centre.numpy(), trained.mean(0), rtol=1e-6)
    norm = np.linalg.norm(trained - trained.mean(0), axis=1).mean() if scale else 1.0
    assert float(module.dictionary.scale) == pytest.approx(norm, rel=1e-6)


def test_with_scale_the_unit_of_the_activations_does_not_matter(data, fit):
    scores = []
    for unit in (1, 64):  # a power of two rounds nothing
        module = SparseCodingModule(16, expansion=2, scale=True)
        scaled = TensorActivations(unit * data.rows, batch_size=128, batches_per_round=BATCHES)
        run = fit(module, scaled, AdaptivePenalty(), max_epochs=2)
        scores.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_atoms_begin_as_directions_of_training_rows_or_anywhere(data, new_diary, fit, standardised):
    first = {}
    for init in ("data", "random"):
        module, diary = SparseCodingModule(16, num_atoms=48, lam=LAM, init=init), new_diary()
        fit(module, data, diary)
        first[init] = diary.first
    x = torch.nn.functional.normalize(standardised(module, data.rows[data.train_index]), dim=1)
    nearest = {init: (atoms @ x.T).max(1).values for init, atoms in first.items()}
    torch.testing.assert_close(nearest["data"], torch.ones(48), atol=1e-5, rtol=0)
    assert nearest["random"].max() < 0.999
    assert torch.equal(first["random"], SparseCodingModule(16, num_atoms=48, init="random").dictionary.atoms)


def test_the_same_configuration_gives_the_same_numbers(small_data, fit):
    states, scores = [], []
    for _ in range(2):
        module = SparseCodingModule(16, expansion=3, seed=5)
        run = fit(module, small_data(seed=1), AdaptivePenalty(), max_epochs=2)
        states.append(module.state_dict())
        scores.append(run.callback_metrics)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert scores[0] == scores[1]


def test_streamed_batches_train_and_fixed_rows_are_scored(diary, small_data, fit, standardised, objective):
    data = small_data(stream=True)
    module = SparseCodingModule(16, expansion=4, lam=LAM)
    run = fit(module, data, diary)
    x = standardised(module, data.rows[data.train_index])
    assert objective(x, module.dictionary.atoms, LAM) < 0.8 * objective(x, diary.first, LAM)
    assert float(run.callback_metrics["train/L"]) == pytest.approx(objective(x, module.dictionary.atoms, LAM), rel=1e-5)


def test_the_start_is_drawn_fresh_where_the_data_streams(small_data, fit, standardised):
    module, data = SparseCodingModule(16, expansion=2, lam=LAM), small_data(stream=True)
    directions = []

    class Start(Callback):
        def on_fit_start(self, trainer, pl_module):
            directions.append(pl_module.dictionary.atoms.detach().clone())

    fit(module, data, Start())
    scored = torch.nn.functional.normalize(standardised(module, data.rows), dim=1)
    assert (directions[0] @ scored.T).max() < 1 - 1e-4
