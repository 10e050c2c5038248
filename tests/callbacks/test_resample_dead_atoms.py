import logging

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.nn.functional import normalize

from sparsecode_pl.callbacks import AdaptivePenalty, ResampleDeadAtoms
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule

#: Atoms that begin dead, of 64.
DEAD = 32


class Rounds(Callback):
    """Notes the dictionary that each round begins with and is scored with, and the one that is left in the end."""

    def __init__(self):
        self.begun, self.scored = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.begun.append(pl_module.dictionary.atoms.detach().clone())

    def on_validation_end(self, trainer, pl_module):
        self.scored.append(pl_module.dictionary.atoms.detach().clone())

    def on_fit_end(self, trainer, pl_module):
        self.left = pl_module.dictionary.atoms.detach().clone()


class Planted(Callback):
    """Has the first atoms begin along a dimension in which no row varies, but for a little that is below the penalty.

    There they are never used and never move. The others begin anywhere else, the same whatever the seed.
    """

    def on_fit_start(self, trainer, pl_module):
        atoms = torch.randn(64, 17, generator=torch.Generator().manual_seed(5))
        atoms[:, 16] = 0
        atoms[:DEAD] = torch.eye(17)[16] + 1e-3 * torch.eye(17)[0]
        pl_module.dictionary.atoms.data.copy_(normalize(atoms))


def planted(atoms):
    """Which atoms are where `Planted` put the dead ones."""
    return atoms[:, 16] > 0.999


@pytest.fixture
def flat(data) -> TensorActivations:
    """The data with a dimension more, in which all rows are equal."""
    rows = torch.cat([data.rows, torch.zeros(len(data.rows), 1)], 1)
    return TensorActivations(rows, batch_size=128, batches_per_round=12)


def new(**settings) -> SparseCodingModule:
    return SparseCodingModule(17, **{"num_atoms": 64, **settings})


def never_settled() -> AdaptivePenalty:
    return AdaptivePenalty(tolerance=1e-9)


def standardised(module, data):
    return module.dictionary.standardise(data.rows[data.train_index])


def test_dead_atoms_live_again_and_the_objective_is_lower(flat, fit):
    scores = []
    for more in [], [ResampleDeadAtoms()]:
        rounds = EarlyStopping("train/L", patience=9)  # so that there are several at one penalty
        run = fit(new(lam=0.08), flat, rounds, Planted(), *more, max_epochs=3)
        scores.append(run.callback_metrics)
    without, with_it = scores
    assert without["train/dead_atoms"] == DEAD / 64
    assert with_it["train/dead_atoms"] == 0
    assert with_it["train/L"] < 0.95 * without["train/L"]
    assert with_it["heldout/L"] < 0.95 * without["heldout/L"]


def test_new_atoms_are_directions_of_different_training_rows_and_the_others_stay(flat, fit):
    module, rounds = new(), Rounds()
    fit(module, flat, never_settled(), Planted(), rounds, ResampleDeadAtoms())
    assert torch.equal(rounds.begun[1][DEAD:], rounds.scored[0][DEAD:])
    cosines = rounds.begun[1][:DEAD] @ normalize(standardised(module, flat)).T
    assert cosines.max(1).values.tolist() == pytest.approx([1] * DEAD, abs=1e-6)
    assert len(set(cosines.argmax(1).tolist())) == DEAD


def test_rows_that_are_reconstructed_well_give_no_atoms(fit):
    """Two directions, one of which the living atom has: the rows along the other are drawn."""
    size = torch.arange(1.0, 201).repeat(2)
    rows = torch.zeros(400, 17)
    rows[range(400), [0] * 200 + [1] * 200] = size * torch.tensor([1.0, -1.0]).repeat(200)  # centred
    data = TensorActivations(rows, val_split=0, batch_size=64, batches_per_round=2)

    class OnePair(Callback):
        def on_fit_start(self, trainer, pl_module):
            pl_module.dictionary.atoms.data[:] = torch.eye(17)[16]
            pl_module.dictionary.atoms.data[:2] = torch.eye(17)[0] * torch.tensor([[1.0], [-1.0]])

    rounds = Rounds()
    fit(new(num_atoms=34), data, AdaptivePenalty(0.001), OnePair(), rounds, ResampleDeadAtoms(), max_epochs=2)
    drawn = rounds.begun[1][2:]
    assert (drawn[:, 1].abs() > 0.99).all()
    assert {-1, 1} == set(drawn[:, 1].sign().tolist())


def test_where_no_atom_is_dead_nothing_changes(data, fit):
    modules = [SparseCodingModule(16, expansion=2), SparseCodingModule(16, expansion=2)]
    without = fit(modules[0], data, never_settled(), max_epochs=3)
    with_it = fit(modules[1], data, never_settled(), ResampleDeadAtoms(), max_epochs=3)
    assert without.callback_metrics["train/dead_atoms"] == 0
    assert with_it.callback_metrics["train/resampled_atoms"] == 0
    assert torch.equal(modules[0].dictionary.atoms, modules[1].dictionary.atoms)
    assert modules[0].lam == modules[1].lam


def test_the_draw_depends_on_the_seed_alone(flat, fit):
    resample, begun = ResampleDeadAtoms(), []
    fit(new(), flat, never_settled(), Planted(), resample, max_epochs=1)  # leaves dead atoms, and no trace
    for seed in (0, 0, 1):
        rounds = Rounds()
        fit(new(seed=seed), flat, never_settled(), Planted(), rounds, resample)
        assert planted(rounds.begun[0]).sum() == DEAD
        begun.append(rounds.begun[1])
    assert torch.equal(begun[0], begun[1])
    assert torch.equal(begun[0][DEAD:], begun[2][DEAD:])
    assert not (begun[0][:DEAD] == begun[2][:DEAD]).all(1).any()


def test_resuming_at_the_end_of_a_round_changes_nothing(flat, fit, quiet_trainer, tmp_path):
    module = new()
    keeper = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    callbacks = [never_settled(), Planted(), ResampleDeadAtoms(), keeper]
    fit(module, flat, *callbacks, max_epochs=2, enable_checkpointing=True)

    again = new()
    resumed = quiet_trainer(callbacks=[never_settled(), ResampleDeadAtoms()], max_epochs=2)
    resumed.fit(again, flat, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert resumed.callback_metrics["train/resampled_atoms"] == DEAD
    assert torch.equal(again.dictionary.atoms, module.dictionary.atoms)


@pytest.mark.parametrize("tolerance", [1e-9, 1e9])
def test_after_the_last_round_nothing_is_replaced(flat, fit, tolerance):
    rounds = Rounds()
    callbacks = [AdaptivePenalty(tolerance=tolerance), Planted(), ResampleDeadAtoms(), rounds]
    run = fit(new(), flat, *callbacks, max_epochs=1 if tolerance < 1 else 5)
    assert run.current_epoch == 1
    assert run.callback_metrics["train/dead_atoms"] == DEAD / 64
    assert "train/resampled_atoms" not in run.callback_metrics
    assert torch.equal(rounds.left, rounds.scored[-1])


@pytest.mark.filterwarnings("ignore:num_atoms is 64")
def test_there_may_be_fewer_rows_than_dead_atoms(flat, fit):
    few = TensorActivations(flat.rows[:20], val_split=0, batch_size=10, batches_per_round=3)
    module, rounds = new(), Rounds()
    run = fit(module, few, never_settled(), Planted(), rounds, ResampleDeadAtoms())
    assert run.callback_metrics["train/resampled_atoms"] == 20
    assert planted(rounds.begun[1]).sum() == DEAD - 20
    cosines = normalize(standardised(module, few)) @ rounds.begun[1][:DEAD].T
    assert cosines.max(1).values.tolist() == pytest.approx([1] * 20, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*lam")
def test_an_atom_that_is_dead_only_at_the_penalty_for_scoring_stays(data, fit):
    modules = [SparseCodingModule(16, expansion=2, eval_lam=1e3), SparseCodingModule(16, expansion=2, eval_lam=1e3)]
    without = fit(modules[0], data, never_settled())
    fit(modules[1], data, never_settled(), ResampleDeadAtoms())
    assert without.callback_metrics["train/dead_atoms"] == 1
    assert torch.equal(modules[0].dictionary.atoms, modules[1].dictionary.atoms)


@pytest.mark.filterwarnings("ignore:.*returned `None`")
def test_a_dictionary_that_does_not_learn_is_left_alone(flat, fit):
    rounds = Rounds()
    fit(new(learn=False), flat, never_settled(), Planted(), rounds, ResampleDeadAtoms())
    assert planted(rounds.left).sum() == DEAD
    assert torch.equal(rounds.left, rounds.begun[0])


def test_a_check_before_the_first_round_does_not_count(flat, fit):
    rounds = Rounds()
    fit(new(), flat, never_settled(), Planted(), rounds, ResampleDeadAtoms(), num_sanity_val_steps=1)
    assert planted(rounds.begun[0]).sum() == DEAD


def test_it_says_how_many_were_replaced(flat, fit, caplog):
    with caplog.at_level(logging.INFO):
        run = fit(new(), flat, never_settled(), Planted(), ResampleDeadAtoms())
    assert run.callback_metrics["train/resampled_atoms"] == DEAD
    assert "32 dead atoms replaced before round 2" in caplog.text


def test_another_kind_of_module_is_refused(fit, data):
    with pytest.raises(TypeError, match="ResampleDeadAtoms is for SparseCodingModule, not BoringModel"):
        fit(BoringModel(), data, ResampleDeadAtoms())
