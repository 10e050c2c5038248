import numpy as np
from lightning.pytorch.callbacks import EarlyStopping

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08
BATCHES = 12


def test_a_first_round_at_fixed_lam_descends_to_it_from_three_times_and_is_the_only_one(data, spy, fit):
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=spy)
    run = fit(module, data, spy, max_epochs=5)
    half = BATCHES // 2
    expected = [*np.linspace(3 * LAM, LAM, half, endpoint=False), *[LAM] * half]
    np.testing.assert_allclose(spy.trained, expected, rtol=1e-12)
    assert set(spy.scored) == {LAM}
    assert run.current_epoch == 1
    assert float(module.lam) == LAM


def test_early_stopping_makes_rounds_at_fixed_lam_that_the_cap_ends(data, spy, rounds, fit, objective_stopping):
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=spy)
    run = fit(module, data, objective_stopping(), rounds, spy, max_epochs=3)
    assert run.current_epoch == 3
    np.testing.assert_allclose(rounds.spans, [(3 * LAM, LAM), (LAM, LAM), (LAM, LAM)])
    np.testing.assert_allclose(spy.trained[BATCHES:], LAM)  # no second descent


def test_early_stopping_on_the_objective_ends_the_rounds(data, fit):
    stopping = EarlyStopping(monitor="train/L", mode="min", patience=1, min_delta=1e6)  # nothing is improvement enough
    run = fit(SparseCodingModule(16, expansion=2, lam=LAM), data, stopping, max_epochs=9)
    assert run.current_epoch == 2


def test_an_adaptive_second_round_moves_from_the_old_penalty_to_the_new(data, spy, rounds, fit):
    module = SparseCodingModule(16, expansion=2, coder=spy)
    fit(module, data, AdaptivePenalty(tolerance=1e-6), rounds, spy, max_epochs=2)
    (first_from, first), (second_from, second) = rounds.spans
    assert first_from == first == second_from != second
    half = BATCHES // 2
    np.testing.assert_allclose(spy.trained[:BATCHES], first)
    descent = [*np.linspace(first, second, half, endpoint=False), *[second] * half]
    np.testing.assert_allclose(spy.trained[BATCHES:], descent, rtol=1e-12)


def test_rate_falls_to_zero_within_each_round_and_begins_the_next_anew(diary, small_data, fit, objective_stopping):
    fit(
        SparseCodingModule(16, expansion=2, lam=LAM),
        small_data(batches_per_round=8),
        objective_stopping(),
        diary,
        max_epochs=2,
    )
    np.testing.assert_allclose(diary.rates, 2 * [*[0.2] * 5, 0.15, 0.1, 0.05])


def test_rate_follows_the_optimiser_steps_where_gradients_are_accumulated(diary, small_data, fit):
    data = small_data(batches_per_round=16)
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data, diary, accumulate_grad_batches=2)
    np.testing.assert_allclose(diary.rates, [*[0.2] * 5, 0.15, 0.1, 0.05])


def test_each_round_begins_without_the_optimisers_memory(data, diary, fit, objective_stopping):
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data, objective_stopping(), diary, max_epochs=2)
    assert diary.kept == 2 * [0, *[1] * (BATCHES - 1)]
