import pytest
import torch

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.seeding import generator


@pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`")
@pytest.mark.parametrize("init", ["data", "random", "truth"])
def test_without_learning_the_atoms_stay_and_the_penalty_settles(data, tmp_path, init, rounds, fit):
    module = SparseCodingModule(16, expansion=2, init=init, learn=False, dictionary_steps=2)
    start = SparseCodingModule(16, expansion=2, init=init)
    if init == "data":
        random = generator(0)
        start.dictionary.centre.copy_(data.statistics.mean)
        start.dictionary.start_from(data.sample(32, random), random)
    if init == "truth":
        start.dictionary.atoms.data.copy_(data.source.features)
    run = fit(module, data, AdaptivePenalty(tolerance=1e-3), rounds, max_epochs=9)
    assert torch.equal(module.dictionary.atoms, start.dictionary.atoms)
    assert module.hparams["learn"] is False
    spans = [lam for _, lam in rounds.spans]
    assert spans[0] == pytest.approx(0.1 * data.statistics.mean_norm)
    assert len(spans) < 9
    assert spans[-1] == pytest.approx(0.1 * float(run.callback_metrics["train/mean_max"]), rel=1e-3)
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert not loaded.learn
    assert torch.equal(loaded.dictionary.atoms, module.dictionary.atoms)


@pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`")
def test_a_checkpoint_of_a_dictionary_that_is_not_learnt_can_be_gone_on_from(data, tmp_path, trainer, fit):
    module = SparseCodingModule(16, expansion=2, learn=False, lr_scheduler=lambda _: pytest.fail("nothing is learnt"))
    fit(module, data, AdaptivePenalty(tolerance=1e-9), max_epochs=1).save_checkpoint(tmp_path / "a.ckpt")
    again = module.fresh()
    resumed = trainer(callbacks=[AdaptivePenalty(tolerance=1e-9)], max_epochs=2)
    resumed.fit(again, data, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.current_epoch == 2
    assert torch.equal(again.dictionary.atoms, module.dictionary.atoms)
    assert float(again.lam) < float(module.lam)


@pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`", "ignore:.*training rows")
@pytest.mark.parametrize("different", [60, 24])
def test_rows_that_repeat_start_no_two_equal_atoms(different, fit):
    rows = torch.randn(different, 16, generator=generator(1))
    often = torch.cat([rows, rows[:5].repeat(100, 1)])  # five of them are nearly all rows
    module = SparseCodingModule(16, expansion=2, learn=False)
    data = TensorActivations(often, batches_per_round=2, batch_size=32, val_split=0)
    fit(module, data, AdaptivePenalty())
    atoms = module.dictionary.atoms.detach()
    assert len(atoms.unique(dim=0)) == 32
    directions = torch.nn.functional.normalize(rows - data.statistics.mean.float(), dim=1)
    of_rows = (atoms @ directions.T).amax(1) > 1 - 1e-6
    assert of_rows.sum() > 5  # others than the frequent ones were found
    assert of_rows.sum() <= different
