import math

import pytest
import torch
from torch.utils.data import DataLoader

from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_model": 0}, "d_model is 0: give at least 1"),
        ({"num_atoms": 0}, "num_atoms is 0: give at least 1"),
        ({"dictionary_steps": 0}, "dictionary_steps is 0: give at least 1"),
        ({"expansion": 0.5}, "expansion is 0.5: give at least 1 atom per dimension"),
        ({"expansion": math.nan}, "expansion is nan: give"),
        ({"expansion": math.inf}, "expansion is inf: give"),
        ({"lam": 0.0}, "lam is 0.0: give a finite penalty above 0"),
        ({"lam": -1.0}, "lam is -1.0: give"),
        ({"lam": math.nan}, "lam is nan: give"),
        ({"eval_lam": 0.0}, "eval_lam is 0.0: give"),
        ({"init": "zeros"}, "init is 'zeros': give 'data', 'random' or 'truth'"),
    ],
)
def test_a_bad_argument_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SparseCodingModule(**{"d_model": 16, **settings})


def test_a_width_that_is_not_the_datas_is_refused(data, fit, untrained):
    with pytest.raises(ValueError, match=r"d_model is 8, but SparseLinear a=1.5 has width 16"):
        fit(SparseCodingModule(8, lam=LAM), data)


def test_no_penalty_at_all_is_refused(data, fit, untrained):
    with pytest.raises(ValueError, match="lam is None: give a penalty above 0, or add the callback AdaptivePenalty"):
        fit(SparseCodingModule(16), data)


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_loaders_without_a_data_module_are_refused(trainer, untrained):
    with pytest.raises(TypeError, match=r"give an ActivationDataModule; sparsecode_pl\.data\.TensorActivations"):
        trainer().fit(SparseCodingModule(16, lam=LAM), DataLoader(torch.randn(64, 16), batch_size=8))


def test_several_steps_with_accumulated_gradients_are_refused(data, fit, untrained):
    with pytest.raises(ValueError, match=r"dictionary_steps is 2 and trainer.accumulate_grad_batches is 4: set one"):
        fit(SparseCodingModule(16, lam=LAM, dictionary_steps=2), data, accumulate_grad_batches=4)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_dictionary_that_nobody_has_learnt_is_not_scored(data, stage, trainer):
    with pytest.raises(RuntimeError, match="no learnt dictionary: give ckpt_path, or fit first"):
        getattr(trainer(), stage)(SparseCodingModule(16, lam=LAM), data)


@pytest.mark.parametrize(("lam", "lam_from", "name"), [(0.0, 1.0, "lam is"), (1.0, math.nan, "lam_from is")])
def test_set_penalty_refuses_what_is_no_penalty(lam, lam_from, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        SparseCodingModule(4).set_penalty(lam, lam_from)


@pytest.mark.parametrize(
    "settings",
    [{"limit_val_batches": 1}, {"limit_val_batches": 0.5}, {"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}],
)
def test_scoring_part_of_the_rows_or_in_mid_round_is_refused(data, settings, fit):
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError, match=f"{name} is {value}, but all rows are scored after each round"):
        fit(SparseCodingModule(16, expansion=2, lam=LAM), data, **settings)


def test_as_many_atoms_as_training_rows_are_warned_of(small_data, fit):
    with pytest.warns(UserWarning, match="num_atoms is 128, and there are 90 training rows"):
        fit(SparseCodingModule(16, expansion=8, lam=LAM), small_data(num_samples=100))


def test_true_features_need_a_known_answer_and_as_many_atoms(data, fit, untrained):
    unknown = TensorActivations(data.rows)
    with pytest.raises(ValueError, match="init is 'truth', but activations has no known answer: give 'data'"):
        fit(SparseCodingModule(16, lam=0.1, init="truth"), unknown)
    with pytest.raises(ValueError, match="has 32 true features, but num_atoms is 128: set num_atoms to 32"):
        fit(SparseCodingModule(16, lam=0.1, init="truth"), data)
