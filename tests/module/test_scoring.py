import math
from dataclasses import replace

import pytest
import torch

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.coding import GreedyCoder, greedy_encode
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08
BATCHES = 12


def test_eval_lam_is_for_scoring_while_the_adaptive_penalty_follows_the_trained_one(
    data, spy, trainer, fit, standardised
):
    module = SparseCodingModule(16, expansion=2, eval_lam=0.2, coder=spy)
    run = fit(module, data, AdaptivePenalty(tolerance=1e-6), spy, max_epochs=2)
    lam = float(module.lam)
    assert 0.2 in spy.scored
    assert 0.2 not in spy.trained
    x = standardised(module, data.rows[data.train_index])
    scored, trained = (greedy_encode(x, module.dictionary.atoms.detach(), value) for value in (0.2, lam))
    assert float(run.callback_metrics["train/N0"]) == pytest.approx(scored.values().numel() / len(x), rel=1e-6)
    mean_max = float(trained.to_dense().max(1).values.mean())
    assert float(run.callback_metrics["train/mean_max"]) == pytest.approx(mean_max, rel=1e-6)
    assert torch.equal(module(data.rows[data.train_index]).to_dense(), scored.to_dense())
    predicted = trainer(inference_mode=False).predict(module, data)
    assert torch.equal(torch.cat([codes.to_dense() for _, codes in predicted]), module(data.rows).to_dense())


def test_predicted_codes_can_be_used_like_any_tensor(data, trainer, fit):
    module = SparseCodingModule(16, expansion=2, lam=LAM)
    fit(module, data)
    _, codes = trainer().predict(module, data)[0]
    assert torch.equal(codes.to_dense(), module(data.rows[: len(codes)]).to_dense())


def test_what_belongs_to_a_scoring_is_empty_before_it_and_replaced_by_it(data, trainer, fit):
    module = SparseCodingModule(16, expansion=2, lam=LAM)
    assert (module.scores, module.sums) == ({}, {})
    fit(module, data)
    assert list(module.sums) == list(data.row_sets)
    module.dictionary.card = replace(module.dictionary.card, scores={"S1": 9.0}, intervals={"S1": (8.0, 10.0)})
    trainer().validate(module, data, verbose=False)
    assert module.dictionary.card.scores["S1"] == module.scores["train/S1"]
    assert module.dictionary.card.intervals == {}


def test_without_held_out_rows_only_training_rows_are_scored(small_data, fit):
    run = fit(SparseCodingModule(16, expansion=2, lam=LAM), small_data(val_split=0))
    assert "train/S1" in run.callback_metrics
    assert not [name for name in run.callback_metrics if name.startswith("heldout")]


def test_validate_and_test_give_the_scores_that_the_fit_ended_with(data, trainer, fit):
    module = SparseCodingModule(16, expansion=2)
    run = fit(module, data, AdaptivePenalty(), max_epochs=2)
    final = {name: float(v) for name, v in run.callback_metrics.items() if name.startswith(("train/", "heldout/"))}
    assert len(final) == 12
    for stage in ("validate", "test"):
        results = getattr(trainer(), stage)(module, data, verbose=False)
        again = {name: value for loader in results for name, value in loader.items()}
        assert again == pytest.approx(final, rel=1e-9)


def test_codes_that_are_all_zero_warn_and_score_nan(data, fit, standardised):
    module = SparseCodingModule(16, expansion=2, lam=1000.0)
    with pytest.warns(UserWarning, match="lam"):
        run = fit(module, data)
    scores = {name: float(value) for name, value in run.callback_metrics.items()}
    for rows in ("train", "heldout"):
        assert math.isnan(scores[f"{rows}/S1"])
        assert math.isnan(scores[f"{rows}/L_norm"])
        assert scores[f"{rows}/N0"] == 0
    assert scores["train/dead_atoms"] == 1
    x = standardised(module, data.rows[data.train_index])
    assert scores["train/L"] == pytest.approx(float(x.square().sum(1).mean()), rel=1e-5)
    assert torch.isfinite(module.dictionary.atoms).all()


def test_dead_atoms_are_those_that_no_training_row_uses(data, fit):
    module = SparseCodingModule(16, num_atoms=200, lam=0.4)
    run = fit(module, data)
    codes = module(data.rows[data.train_index]).to_dense()
    share = float((codes.sum(0) == 0).double().mean())
    assert 0 < share < 1
    assert float(run.callback_metrics["train/dead_atoms"]) == pytest.approx(share, abs=1e-9)


def test_sanity_checking_with_an_adaptive_penalty_leaves_no_trace(small_data, fit):
    scores = []
    for steps in (2, 0):
        module = SparseCodingModule(16, expansion=2)
        run = fit(module, small_data(), AdaptivePenalty(), num_sanity_val_steps=steps, max_epochs=2)
        scores.append((run.callback_metrics, module.state_dict()))
    assert scores[0][0] == scores[1][0]
    assert all(torch.equal(value, scores[1][1][name]) for name, value in scores[0][1].items())


class Counting(GreedyCoder):
    """Notes of each call the Gram matrix that it is given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode(self, x, lam, bound):
        self.calls.append(bound.gram)
        return super().encode(x, lam, bound)


def test_scoring_forms_the_gram_matrix_once_and_nothing_else_uses_it(data, fit):
    coder = Counting()
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=coder)
    fit(module, data, max_epochs=1)
    assert coder.calls[:BATCHES] == [None] * BATCHES
    assert len(coder.calls) > BATCHES
    assert len({id(gram) for gram in coder.calls[BATCHES:]}) == 1
    atoms = module.dictionary.atoms.detach()
    torch.testing.assert_close(coder.calls[-1], atoms @ atoms.T)
    coder.calls.clear()
    module(data.rows[:5])
    assert coder.calls == [None]
