import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger

from sparsecode_pl.callbacks import AdaptivePenalty, RunCheckpoint
from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in, newest_run
from sparsecode_pl.module import SparseCodingModule

BATCHES = 12
names_then: list[str] = []


class At(Callback):
    """Does something when a batch begins, given its number from the beginning of training."""

    def __init__(self, batch, what):
        self.batch, self.what = batch, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == self.batch:
            self.what()


def names(folder):
    return [path.name for path in checkpoints_in(folder / "checkpoints")]


@pytest.fixture
def run(data, fit):
    """Fits a small problem with checkpoints, and returns the module."""

    def run(*callbacks, log_every_n_steps=5, max_epochs=1, **settings):
        module = SparseCodingModule(16, expansion=2)
        settings = {"log_every_n_steps": log_every_n_steps, "max_epochs": max_epochs, **settings}
        fit(module, data, AdaptivePenalty(tolerance=1e-9), *callbacks, enable_checkpointing=True, **settings)
        return module

    return run


@pytest.mark.parametrize(
    ("every", "rounds", "kept"),
    [
        (None, 2, ["round=2-batch=12.ckpt", "round=1-batch=12.ckpt"]),
        (4, 2, ["round=2-batch=12.ckpt", "round=2-batch=9.ckpt"]),  # the curves of step 20 are written after it
        (5, 1, ["round=1-batch=12.ckpt", "round=1-batch=11.ckpt"]),  # those of steps 5 and 10
    ],
)
def test_it_saves_every_so_many_steps_and_at_the_end_of_rounds_and_keeps_two(run, tmp_path, every, rounds, kept):
    run(RunCheckpoint(every_n_steps=every, every_n_minutes=None), max_epochs=rounds)
    assert names(tmp_path) == kept


def test_it_saves_after_minutes_too_and_keeps_as_many_as_are_asked_for(run, tmp_path):
    run(RunCheckpoint(every_n_minutes=1e-9, keep=4), log_every_n_steps=1)
    assert names(tmp_path) == [f"round=1-batch={batch}.ckpt" for batch in (12, 11, 10, 9)]


def test_it_saves_where_no_gradient_is_waiting(run, tmp_path):
    run(RunCheckpoint(every_n_steps=1, keep=9), accumulate_grad_batches=5, log_every_n_steps=100)
    assert names(tmp_path) == [f"round=1-batch={batch}.ckpt" for batch in (12, 10, 5)]


def test_on_sigterm_the_batch_is_finished_and_saved_and_the_process_leaves(run, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        run(RunCheckpoint(every_n_minutes=None), At(7, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert left.value.code == 128 + signal.SIGTERM
    assert names(tmp_path) == ["round=1-batch=8.ckpt"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_requeue_is_handled_between_two_batches(run, tmp_path):
    seen = []

    class Announced(Callback):
        def on_train_start(self, trainer, pl_module):
            signal.signal(signal.SIGUSR1, lambda *_: seen.append(names(tmp_path)))

    class Within(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.fit_loop.total_batch_idx == 7:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert not seen

    before = signal.getsignal(signal.SIGUSR1)
    try:
        run(Announced(), Within(), RunCheckpoint(every_n_minutes=None))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [["round=1-batch=8.ckpt"]]


def test_the_newest_run_is_the_last_fit_with_checkpoints_or_without(tmp_path):
    assert newest_run(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()  # of a fit without a logger
    assert newest_run(tmp_path) == tmp_path
    for version in (2, 10, 9):
        (tmp_path / "lightning_logs" / f"version_{version}" / "checkpoints").mkdir(parents=True)
    (tmp_path / "lightning_logs" / "version_11").mkdir()  # of `predict`
    assert newest_run(tmp_path) == tmp_path / "lightning_logs" / "version_10"


def test_checkpoints_of_another_course_are_removed_and_the_last_ones_stay(run, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("round=1-batch=12.ckpt", "round=1-batch=11.ckpt"):  # damaged ones, say, that were passed over
        (folder / name).touch()
    run(RunCheckpoint(every_n_steps=4, keep=2), At(11, lambda: names_then.extend(names(tmp_path))))
    assert names_then == ["round=1-batch=8.ckpt", "round=1-batch=4.ckpt"]


def test_checkpoints_are_in_the_order_of_rounds_and_batches(tmp_path):
    for name in (
        "round=2-batch=9.ckpt",
        "round=2-batch=10.ckpt",
        "round=10-batch=1.ckpt",
        "round=3-batch=1.ckpt.partial",
    ):
        (tmp_path / name).touch()
    found = [path.name for path in checkpoints_in(tmp_path)]
    assert found == ["round=10-batch=1.ckpt", "round=2-batch=10.ckpt", "round=2-batch=9.ckpt"]


@pytest.mark.parametrize(
    ("name", "value"), [("every_n_steps", 0), ("every_n_minutes", 0.0), ("every_n_minutes", float("nan")), ("keep", 0)]
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}: give"):
        RunCheckpoint(**{name: value})


def test_a_trainer_that_scores_the_last_dictionary_finds_it(run, tmp_path):
    checkpoint = RunCheckpoint()
    module = run(checkpoint)
    state = torch.load(checkpoint.last_model_path, weights_only=True)["state_dict"]
    assert torch.equal(state["dictionary.atoms"], module.dictionary.atoms)
    assert Path(checkpoint.best_model_path) == checkpoint.paths[0]


def test_what_processes_agree_on_where_curves_are_not_written_yet_is_done_after_it(run, tmp_path, monkeypatch):
    def every_tenth(trainer, batches, *flags):
        return list(flags) if batches % 10 == 0 else [False for _ in flags]

    monkeypatch.setattr(RunCheckpoint, "_of_any", staticmethod(every_tenth))
    run(RunCheckpoint(every_n_minutes=1e-9), log_every_n_steps=10)
    assert names(tmp_path) == ["round=1-batch=12.ckpt", "round=1-batch=11.ckpt"]


def test_sigterm_loses_no_point_of_the_curves(run, tmp_path):
    logger = CSVLogger(tmp_path)
    with pytest.raises(SystemExit):
        run(RunCheckpoint(), At(7, lambda: os.kill(os.getpid(), signal.SIGTERM)), log_every_n_steps=1, logger=logger)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(8))
