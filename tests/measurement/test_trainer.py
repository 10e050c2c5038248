from functools import partial
from pathlib import Path

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from sparsecode_pl.callbacks import AdaptivePenalty, DictionarySaver, SparseCodingProgress, TensorBoardFigures
from sparsecode_pl.measurement import trainer as trainer_module
from sparsecode_pl.measurement.trainer import TRAINER_DEFAULTS, default_trainer, run_callbacks
from sparsecode_pl.module import SparseCodingModule

CPU = partial(default_trainer, accelerator="cpu", devices=1)


def kinds(callbacks):
    return {type(callback) for callback in callbacks}


def of_kind(callbacks, kind):
    (found,) = (callback for callback in callbacks if isinstance(callback, kind))
    return found


def test_the_penalty_is_adapted_where_the_module_does_not_fix_it():
    assert AdaptivePenalty in kinds(run_callbacks(SparseCodingModule(4)))
    assert AdaptivePenalty not in kinds(run_callbacks(SparseCodingModule(4, lam=0.1), AdaptivePenalty(0.2)))


def test_every_fit_has_a_penalty_of_its_own_with_the_given_settings():
    given = AdaptivePenalty(0.2, tolerance=0.5)
    one, other = (of_kind(run_callbacks(SparseCodingModule(4), given), AdaptivePenalty) for _ in range(2))
    assert len({id(given), id(one), id(other)}) == 3
    assert (one.ratio, one.tolerance) == (0.2, 0.5)


def test_a_progress_bar_can_be_left_out():
    module = SparseCodingModule(4)
    assert SparseCodingProgress in kinds(run_callbacks(module))
    assert kinds(run_callbacks(module)) - kinds(run_callbacks(module, progress=False)) == {SparseCodingProgress}


def test_the_trainer_logs_to_the_folder_and_keeps_the_defaults(tmp_path):
    made = CPU(SparseCodingModule(4), tmp_path / "run")
    assert isinstance(made.logger, TensorBoardLogger)
    assert Path(made.log_dir) == tmp_path / "run"
    assert made.max_epochs == TRAINER_DEFAULTS["max_epochs"]
    assert made.num_sanity_val_steps == 0
    assert kinds(made.callbacks) >= {AdaptivePenalty, DictionarySaver, TensorBoardFigures}
    assert type(of_kind(made.callbacks, ProgressBar)) is SparseCodingProgress


def test_settings_go_before_the_defaults(tmp_path):
    made = CPU(SparseCodingModule(4), tmp_path, max_epochs=3, logger=False, enable_progress_bar=False)
    assert made.max_epochs == 3
    assert made.loggers == []
    assert not [callback for callback in made.callbacks if isinstance(callback, ProgressBar)]


def test_further_callbacks_are_copies(tmp_path):
    given = EarlyStopping("train/L", patience=7)
    one, other = (
        of_kind(CPU(SparseCodingModule(4), tmp_path, callbacks=[given]).callbacks, EarlyStopping) for _ in range(2)
    )
    assert len({id(given), id(one), id(other)}) == 3
    assert one.patience == 7


def test_another_class_of_trainer_can_be_made(tmp_path):
    class Own(Trainer):
        pass

    assert type(CPU(SparseCodingModule(4), tmp_path, trainer_class=Own)) is Own


@pytest.mark.parametrize(("process", "shown"), [("MainProcess", True), ("LokyProcess-1", False)])
def test_parallel_fits_show_no_progress_bar(tmp_path, monkeypatch, process, shown):
    class Process:
        name = process

    monkeypatch.setattr(trainer_module, "current_process", Process)
    made = CPU(SparseCodingModule(4), tmp_path, enable_progress_bar=True)
    assert any(isinstance(callback, ProgressBar) for callback in made.callbacks) is shown
