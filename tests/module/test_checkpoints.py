import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.coding import GreedyCoder
from sparsecode_pl.module import SparseCodingModule

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
