import math

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.demos.boring_classes import BoringModel

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.coding import greedy_encode
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule


class Rounds(Callback):
    """Notes the penalty and the dictionary that each round ends with, and the penalty set after it."""

    def __init__(self):
        self.scored, self.atoms, self.after = [], [], []

    def on_validation_start(self, trainer, pl_module):
        self.scored.append(float(pl_module.lam))
        self.atoms.append(pl_module.dictionary.atoms.detach().clone())

    def on_train_epoch_end(self, trainer, pl_module):
        self.after.append(float(pl_module.lam))


def numpy_rows(data, index):
    """Rows, centred by the mean of the training rows, in float64."""
    rows = data.rows.double().numpy()
    return rows[index.numpy()] - rows[data.train_index.numpy()].mean(0)


def dense_codes(x, atoms, lam):
    return greedy_encode(torch.from_numpy(x).float(), atoms.detach(), lam).to_dense().double().numpy()


@pytest.mark.parametrize("scale", [False, True])
def test_begins_at_a_share_of_the_mean_norm(data, fit, scale):
    rounds, module = Rounds(), SparseCodingModule(16, expansion=2, scale=scale)
    shifted = TensorActivations(data.rows + 7, batch_size=128, batches_per_round=1)
    with pytest.warns(UserWarning, match="not settled"):
        fit(module, shifted, rounds, AdaptivePenalty(ratio=0.15), max_epochs=1)
    norm = 1 if scale else np.linalg.norm(numpy_rows(shifted, shifted.train_index), axis=1).mean()
    assert rounds.scored == pytest.approx([0.15 * norm], rel=1e-6)


def test_follows_the_mean_maximum_over_all_training_rows(data, fit):
    rounds = Rounds()
    fit(SparseCodingModule(16, expansion=2), data, rounds, AdaptivePenalty(0.2, tolerance=1e-9), max_epochs=4)
    x = numpy_rows(data, data.train_index)
    for number in range(3):
        codes = dense_codes(x, rounds.atoms[number], rounds.scored[number])
        assert rounds.after[number] == pytest.approx(0.2 * codes.max(1).mean(), rel=1e-6)
    assert rounds.scored[1:] == rounds.after[:-1]
    assert len(set(rounds.scored)) == 4


def test_ends_when_lam_has_settled(data, fit):
    rounds, module = Rounds(), SparseCodingModule(16, expansion=2)
    run = fit(module, data, rounds, AdaptivePenalty(ratio=0.1, tolerance=0.03), max_epochs=20)
    assert 2 <= run.current_epoch < 20
    x = numpy_rows(data, data.train_index)
    target = [0.1 * dense_codes(x, *pair).max(1).mean() for pair in zip(rounds.atoms, rounds.scored, strict=True)]
    moves = np.abs(np.array(target) / rounds.scored - 1)
    assert moves[-1] <= 0.03
    assert (moves[:-1] > 0.03).all()
    assert float(module.lam) == rounds.scored[-1]


def test_warns_at_the_cap_and_leaves_the_penalty_that_was_scored(data, fit):
    rounds, module = Rounds(), SparseCodingModule(16, expansion=2)
    with pytest.warns(UserWarning, match="lam has not settled: .* max_epochs is 2: raise it"):
        run = fit(module, data, rounds, AdaptivePenalty(tolerance=1e-9), max_epochs=2)
    assert run.current_epoch == 2
    assert float(module.lam) == rounds.scored[-1] == rounds.after[-1]


@pytest.mark.parametrize("eval_lam", [None, 0.1])
def test_final_scores_are_those_of_the_final_dictionary(data, fit, eval_lam):
    module = SparseCodingModule(16, expansion=3, eval_lam=eval_lam)
    scores = fit(module, data, AdaptivePenalty()).callback_metrics
    lam = eval_lam or float(module.lam)
    atoms = module.dictionary.atoms.detach().double().numpy()
    for rows, index in (("train", data.train_index), ("heldout", data.heldout_index)):
        x = numpy_rows(data, index)
        codes = dense_codes(x, module.dictionary.atoms, lam)
        residual = x - codes @ atoms
        objective = ((residual**2).sum() + lam * codes.sum()) / len(x)
        expected = {
            "N0": (codes > 0).sum() / len(x),
            "S1": codes.sum() / codes.max(1).sum(),
            "L": objective,
            "L_norm": objective / (lam * codes.max(1).mean()),
            "explained_variance": 1 - (residual**2).sum() / ((x - x.mean(0)) ** 2).sum(),
        }
        found = {name: float(scores[f"{rows}/{name}"]) for name in expected}
        assert found == pytest.approx(expected, rel=1e-6)


def test_scoring_alone_does_not_move_the_penalty(data, fit, quiet_trainer):
    module, penalty = SparseCodingModule(16, expansion=2), AdaptivePenalty(tolerance=1e-9)
    fit(module, data, penalty, max_epochs=1)
    lam = float(module.lam)
    quiet_trainer(callbacks=[penalty]).validate(module, data, verbose=False)
    assert float(module.lam) == lam


def test_one_fit_leaves_no_trace_in_the_next(data, fit):
    scores = []
    penalty = AdaptivePenalty(tolerance=1e-9)
    for _ in range(2):
        scores.append(fit(SparseCodingModule(16, expansion=2), data, penalty, max_epochs=2).callback_metrics)
    assert scores[0] == scores[1]


@pytest.mark.filterwarnings("ignore:.*lam")
def test_ends_where_no_code_is_left(fit):
    half = torch.nn.functional.normalize(torch.randn(60, 16, generator=torch.Generator().manual_seed(0)))
    data = TensorActivations(torch.cat([half, -half]), val_split=0, batch_size=64, batches_per_round=2)
    rounds, module = Rounds(), SparseCodingModule(16, expansion=2, init="random")
    run = fit(module, data, rounds, AdaptivePenalty(ratio=1.99), max_epochs=5)
    assert run.current_epoch == 1
    assert rounds.scored == rounds.after == pytest.approx([1.99], rel=1e-5)
    assert math.isnan(float(run.callback_metrics["train/S1"]))


@pytest.mark.parametrize("ratio", [0, -0.1, 2, math.nan])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"ratio is {ratio}: give a number in \(0, 2\)"):
        AdaptivePenalty(ratio=ratio)


@pytest.mark.parametrize("tolerance", [0, -1, math.nan])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match=f"tolerance is {tolerance}: give a number above 0"):
        AdaptivePenalty(tolerance=tolerance)


@pytest.mark.parametrize(
    ("lam", "settings", "message"),
    [
        (0.3, {}, "lam is 0.3, but AdaptivePenalty would change it: remove one of them"),
        (None, {"limit_val_batches": 0}, "limit_val_batches is 0, but AdaptivePenalty needs scores"),
    ],
)
def test_what_does_not_go_with_it_is_refused_before_training(data, fit, monkeypatch, lam, settings, message):
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=message):
        fit(SparseCodingModule(16, expansion=2, lam=lam), data, AdaptivePenalty(), **settings)


def test_another_kind_of_module_is_refused(fit, data):
    with pytest.raises(TypeError, match="AdaptivePenalty is for SparseCodingModule, not BoringModel"):
        fit(BoringModel(), data, AdaptivePenalty())
