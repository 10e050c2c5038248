import math
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sparsecode_pl.data import SourceActivations, TensorActivations, TensorSource
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


def repeating(num=600, distinct=600, types=None):
    """Some different rows, repeated in turn; maybe of token types."""
    rows = torch.randn(distinct, 16, generator=torch.Generator().manual_seed(0))[torch.arange(num) % distinct]
    columns = {} if types is None else {"token_id": torch.arange(num) % types}
    return SourceActivations(TensorSource(rows, columns=columns), batch_size=64, batches_per_round=2)


def told(module, data, fit):
    """What is said of the number of atoms and of the rows."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(module, data)
    said = [str(warning.message) for warning in caught]
    return [message for message in said if "num_atoms" in message or "different" in message]


def test_as_many_atoms_as_different_rows_are_warned_of(fit):
    few, many = told(SparseCodingModule(16, num_atoms=128, lam=LAM), repeating(distinct=120), fit)
    assert few.startswith(
        "activations: num_atoms is 128, and there are 540 training rows, of which 108 are different. Each"
    )
    assert few.endswith("give more rows or fewer atoms")
    assert many.startswith("activations: only 108 of 540 training rows are different")


def test_as_many_atoms_as_token_types_are_warned_of(fit):
    data = repeating(types=40)
    (message,) = told(SparseCodingModule(16, num_atoms=64, lam=LAM), data, fit)
    types = len(data.source.columns["token_id"][data.train_index].unique())
    assert message.startswith(f"activations: num_atoms is 64, and the training rows are of {types} token types. Each")
    assert message.endswith("give fewer atoms or more text, and read the scores of unseen tokens")


def test_repeated_rows_are_warned_of(fit):
    (message,) = told(SparseCodingModule(16, num_atoms=32, lam=LAM), repeating(distinct=200), fit)
    assert message.startswith(
        "activations: only 180 of 540 training rows are different, and repetition alone reads as sparsity"
    )
    assert "RepeatedGaussian" in message


def test_there_is_no_such_warning_without_a_reason(fit):
    assert told(SparseCodingModule(16, num_atoms=32, lam=LAM), repeating(types=40), fit) == []
    assert told(SparseCodingModule(16, num_atoms=32, lam=LAM), repeating(distinct=400), fit) == []


def test_true_features_need_a_known_answer_and_as_many_atoms(data, fit, untrained):
    unknown = TensorActivations(data.rows)
    with pytest.raises(ValueError, match="init is 'truth', but activations has no known answer: give 'data'"):
        fit(SparseCodingModule(16, lam=0.1, init="truth"), unknown)
    with pytest.raises(ValueError, match="has 32 true features, but num_atoms is 128: set num_atoms to 32"):
        fit(SparseCodingModule(16, lam=0.1, init="truth"), data)


def test_hyper_parameters_are_plain_numbers():
    module = SparseCodingModule(np.int64(4), np.int32(6), np.float32(2), np.float64(0.1), seed=np.int64(1))
    kinds = {name: type(module.hparams[name]) for name in ("d_model", "num_atoms", "expansion", "lam", "seed")}
    assert kinds == {"d_model": int, "num_atoms": int, "expansion": float, "lam": float, "seed": int}
