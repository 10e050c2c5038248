from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from sparsecode_pl.callbacks import AdaptivePenalty, ResampleDeadAtoms, RunCheckpoint
from sparsecode_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.coding import GreedyCoder
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.checkpoint import read_checkpoint

LAM = 0.08


@pytest.fixture
def checkpoint(data, tmp_path, fit):
    """A module that was trained, and its checkpoint."""
    module = SparseCodingModule(16, expansion=2, scale=True, seed=4)
    fit(module, data, AdaptivePenalty(), max_epochs=2).save_checkpoint(tmp_path / "a.ckpt")
    return module, tmp_path / "a.ckpt"


def test_a_checkpoint_holds_plain_types_alone(checkpoint):
    content = torch.load(checkpoint[1], weights_only=True)
    settings = {"d_model": 16, "expansion": 2, "scale": True, "seed": 4, "lam": None, "num_atoms": None}
    assert content["hyper_parameters"].items() >= settings.items()


def test_a_checkpoint_loads_into_the_module_that_it_was(checkpoint, data):
    module, path = checkpoint
    loaded = SparseCodingModule.load_from_checkpoint(path)
    assert loaded.hparams == module.hparams
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert float(loaded.lam) > 0
    assert torch.equal(loaded(data.rows).to_dense(), module(data.rows).to_dense())


def test_a_checkpoint_keeps_the_settings_of_its_coder(data, tmp_path, fit):
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=GreedyCoder(max_atoms=1))
    fit(module, data).save_checkpoint(tmp_path / "a.ckpt")
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded(data.rows).crow_indices().diff().max() == 1


def test_resuming_at_the_end_of_a_round_changes_nothing(tmp_path, small_data, trainer, fit):
    def new():
        return SparseCodingModule(16, expansion=2), AdaptivePenalty(tolerance=1e-6)

    module, penalty = new()
    keeper = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    run = fit(module, small_data(), penalty, keeper, max_epochs=3, enable_checkpointing=True)
    for epoch in (0, 1):
        resumed, penalty = new()
        again = trainer(callbacks=[penalty], max_epochs=3)
        again.fit(resumed, small_data(), ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert again.current_epoch == run.current_epoch == 3
        for name, value in module.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), name
        scores = {name: value for name, value in run.callback_metrics.items() if "/" in name}
        assert {name: again.callback_metrics[name] for name in scores} == scores


def test_a_run_that_the_cap_ended_goes_on_at_fixed_lam_as_if_it_had_not(
    tmp_path, small_data, trainer, fit, objective_stopping
):
    whole, part = (SparseCodingModule(16, expansion=2, lam=LAM) for _ in range(2))
    fit(whole, small_data(), objective_stopping(), max_epochs=2)
    fit(part, small_data(), objective_stopping(), max_epochs=1).save_checkpoint(tmp_path / "a.ckpt")
    resumed = SparseCodingModule(16, expansion=2, lam=LAM)
    trainer(callbacks=[objective_stopping()], max_epochs=2).fit(resumed, small_data(), ckpt_path=tmp_path / "a.ckpt")
    assert not torch.equal(part.dictionary.atoms, whole.dictionary.atoms)
    assert torch.equal(resumed.dictionary.atoms, whole.dictionary.atoms)


def test_a_run_that_ended_at_its_cap_goes_on_as_if_it_had_not(data, tmp_path, trainer):
    def run(max_epochs, folder, **resume):
        module = SparseCodingModule(16, expansion=2)
        checkpoint = ModelCheckpoint(folder, save_last=True)
        settings = {"enable_checkpointing": True, "max_epochs": max_epochs}
        run = trainer(callbacks=[AdaptivePenalty(tolerance=1e-9), checkpoint], **settings)
        run.fit(module, data, **resume)
        return module

    whole = run(3, tmp_path / "whole")
    run(1, tmp_path / "part")
    resumed = run(3, tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert float(resumed.lam) == pytest.approx(float(whole.lam), rel=1e-6)
    torch.testing.assert_close(resumed.dictionary.atoms, whole.dictionary.atoms, atol=1e-5, rtol=1e-4)


def test_a_penalty_given_to_a_resumed_run_is_the_one_in_use(data, tmp_path, rounds, trainer, fit):
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data).save_checkpoint(tmp_path / "a.ckpt")
    resumed = SparseCodingModule(16, expansion=2, lam=2 * LAM)
    trainer(callbacks=[rounds], max_epochs=2).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt")
    assert rounds.spans == [(LAM, 2 * LAM)]
    assert float(resumed.lam) == 2 * LAM


class Crash(Callback):
    """Ends training with an error when a batch begins, given its number from the beginning of training."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("settings", "crashes"),
    [
        ({}, [7]),
        ({}, [12]),  # between two rounds
        ({}, [17, 21]),  # twice in one round
        ({"accumulate_grad_batches": 3}, [20]),
        ({"stream": True}, [20]),
        ({"num_workers": 2}, [7, 30]),
    ],
    ids=str,
)
def test_resuming_within_a_round_changes_nothing(tmp_path, small_data, trainer, settings, crashes):
    accumulated = {name: settings.pop(name) for name in ("accumulate_grad_batches",) if name in settings}

    def run(folder, crash=None):
        module, saver = SparseCodingModule(16, expansion=2), RunCheckpoint(every_n_steps=2)
        callbacks = [AdaptivePenalty(tolerance=1e-9), ResampleDeadAtoms(), saver, *([Crash(crash)] if crash else [])]
        made = trainer(
            callbacks=callbacks,
            max_epochs=3,
            default_root_dir=folder,
            enable_checkpointing=True,
            log_every_n_steps=5,
            **accumulated,
        )
        last = next(iter(checkpoints_in(folder / "checkpoints")), None)
        with pytest.raises(ZeroDivisionError) if crash else nullcontext():
            made.fit(module, small_data(**settings), ckpt_path=last)
        return module

    whole = run(tmp_path / "whole")
    for crash in crashes:
        run(tmp_path / "part", crash)
    resumed = run(tmp_path / "part")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert resumed.scores == whole.scores
    assert len(whole.scores) > 10


def test_a_run_that_had_ended_is_not_trained_further(tmp_path, small_data, trainer):
    for module, penalty in (
        (SparseCodingModule(16, expansion=2, lam=LAM), []),
        (SparseCodingModule(16, expansion=2), [AdaptivePenalty(tolerance=0.5)]),
    ):
        run = trainer(callbacks=penalty, max_epochs=9)
        run.fit(module, small_data())
        assert run.current_epoch < 9
        run.save_checkpoint(tmp_path / "a.ckpt")
        resumed = module.fresh()
        trainer(callbacks=[type(one)(tolerance=0.5) for one in penalty], max_epochs=9).fit(
            resumed, small_data(), ckpt_path=tmp_path / "a.ckpt"
        )
        for name, value in module.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), name
        assert resumed.scores == module.scores


def test_a_run_that_had_settled_goes_on_with_a_smaller_tolerance(tmp_path, small_data, trainer):
    whole, part, resumed = (SparseCodingModule(16, expansion=2) for _ in range(3))
    trainer(callbacks=[AdaptivePenalty(tolerance=1e-9)], max_epochs=3).fit(whole, small_data())
    settled = trainer(callbacks=[AdaptivePenalty(tolerance=0.9)], max_epochs=3)
    settled.fit(part, small_data())
    assert settled.current_epoch == 1
    settled.save_checkpoint(tmp_path / "a.ckpt")
    trainer(callbacks=[AdaptivePenalty(tolerance=1e-9)], max_epochs=3).fit(
        resumed, small_data(), ckpt_path=tmp_path / "a.ckpt"
    )
    assert torch.equal(resumed.dictionary.atoms, whole.dictionary.atoms)
    assert float(resumed.lam) == float(whole.lam)


@pytest.mark.parametrize("changed", [{"batches_per_round": 20}, {"batch_size": 64}, {"seed": 3}], ids=str)
def test_other_batches_are_refused_within_a_round(tmp_path, small_data, trainer, changed):
    saver = RunCheckpoint(every_n_steps=4)
    interrupted = trainer(
        callbacks=[saver, Crash(9)], default_root_dir=tmp_path, enable_checkpointing=True, log_every_n_steps=5
    )
    with pytest.raises(ZeroDivisionError):
        interrupted.fit(SparseCodingModule(16, expansion=2, lam=LAM), small_data())
    ((name, value),) = changed.items()
    reason = "other data|was fitted to" if name == "seed" else f"{name} is {value}, but the checkpoint was made with"
    with pytest.raises(ValueError, match=reason):
        trainer().fit(
            SparseCodingModule(16, expansion=2, lam=LAM), small_data(**changed), ckpt_path=saver.last_model_path
        )


def test_between_rounds_their_length_may_change_and_the_rate_is_in_phase(tmp_path, small_data, trainer, new_diary):
    first = trainer(callbacks=[AdaptivePenalty(tolerance=1e-9)], max_epochs=1)
    first.fit(SparseCodingModule(16, expansion=2), small_data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    diary = new_diary()
    trainer(callbacks=[AdaptivePenalty(tolerance=1e-9), diary], max_epochs=2, accumulate_grad_batches=2).fit(
        SparseCodingModule(16, expansion=2), small_data(batches_per_round=16), ckpt_path=tmp_path / "a.ckpt"
    )
    assert diary.rates == pytest.approx([*[0.2] * 5, 0.15, 0.1, 0.05])


def test_other_data_is_refused_by_a_module_that_is_fitted(small_data, trainer):
    module = SparseCodingModule(16, expansion=2, lam=LAM)
    trainer().fit(module, small_data())
    trainer().fit(module, small_data())  # the same
    with pytest.raises(ValueError, match=r"was fitted to SparseLinear.*: give the same data, or a new module"):
        trainer().fit(module, small_data(seed=1))


def test_a_damaged_checkpoint_and_one_that_would_run_code_are_refused(checkpoint, tmp_path):
    content = bytearray(checkpoint[1].read_bytes())
    content[content.index(checkpoint[0].dictionary.atoms.detach().numpy().tobytes())] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    (tmp_path / "half.ckpt").write_bytes(content[: len(content) // 2])

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was run",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    for name in ("damaged", "half", "evil"):
        with pytest.raises(ValueError, match=f"{name}.ckpt', and that is damaged, or no checkpoint"):
            read_checkpoint(tmp_path / f"{name}.ckpt")
    assert not (tmp_path / "was run").exists()
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_checkpoint(tmp_path / "nowhere.ckpt")


def test_what_was_there_survives_a_checkpoint_that_cannot_be_written(tmp_path):
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"state_dict": lambda: None}, tmp_path / "a.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "a.ckpt")["state_dict"]["a"], torch.ones(2))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        writer.save_checkpoint({"state_dict": {}}, tmp_path / "file" / "b.ckpt")


def test_within_a_round_another_penalty_is_refused(tmp_path, small_data, trainer):
    saver = RunCheckpoint(every_n_steps=4)
    interrupted = trainer(
        callbacks=[saver, Crash(9)], default_root_dir=tmp_path, enable_checkpointing=True, log_every_n_steps=5
    )
    with pytest.raises(ZeroDivisionError):
        interrupted.fit(SparseCodingModule(16, expansion=2, lam=LAM), small_data())
    with pytest.raises(ValueError, match=f"lam is {2 * LAM}, but the checkpoint was made at {LAM}, in the middle"):
        trainer().fit(SparseCodingModule(16, expansion=2, lam=2 * LAM), small_data(), ckpt_path=saver.last_model_path)


def test_other_data_of_the_same_mean_is_refused(small_data, trainer):
    rows = small_data().rows[:] - small_data().rows[:].mean(0)
    module = SparseCodingModule(16, expansion=2, lam=LAM)
    trainer().fit(module, TensorActivations(rows, val_split=0, batches_per_round=4))
    with pytest.raises(ValueError, match="has training rows of another mean or size"):
        trainer().fit(module, TensorActivations(100 * rows, val_split=0, batches_per_round=4))
