import copy

import torch

from sparsecode_pl.coding import GreedyCoder
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08


def test_fresh_is_an_untrained_twin_with_other_atoms_and_leaves_the_original_alone(data, small_data, fit):
    module = SparseCodingModule(16, expansion=2, scale=True, coder=GreedyCoder(max_atoms=3), lam=LAM)
    fit(module, data)
    before = copy.deepcopy(module.state_dict())
    twin = module.fresh(seed=7)
    assert torch.equal(twin.dictionary.atoms, SparseCodingModule(16, expansion=2, seed=7).dictionary.atoms)
    assert not twin.dictionary.centre.any()
    assert float(twin.dictionary.scale) == 1
    assert twin.lam.isnan()
    assert twin.lam_from.isnan()
    fit(twin, data)
    assert twin.coder is module.coder
    assert not torch.equal(twin.dictionary.atoms, module.dictionary.atoms)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    other = SparseCodingModule(16, expansion=2, scale=True, coder=GreedyCoder(max_atoms=3), lam=LAM, seed=7)
    fit(other, small_data())
    assert torch.equal(twin.dictionary.atoms, other.dictionary.atoms)


def test_the_hyper_parameters_of_a_fresh_twin_tell_its_seed():
    module = SparseCodingModule(16, expansion=2, seed=3)
    assert module.fresh(seed=7).hparams["seed"] == 7
    assert module.hparams["seed"] == 3


def test_a_fresh_twin_of_another_width_keeps_what_was_not_changed(data, tmp_path, fit):
    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    def scheduler(optimizer):
        return torch.optim.lr_scheduler.ConstantLR(optimizer)

    coder = GreedyCoder(max_atoms=3)
    module = SparseCodingModule(8, coder=coder, optimizer=optimizer, lr_scheduler=scheduler, lam=LAM, eval_lam=0.2)
    twin = module.fresh(d_model=16, expansion=2)
    assert twin.dictionary.shape == (32, 16)
    assert twin.coder is coder
    assert (twin.make_optimizer, twin.make_scheduler) == (optimizer, scheduler)
    assert (twin.fixed_lam, twin.eval_lam) == (LAM, 0.2)
    assert dict(twin.hparams) == {**module.hparams, "d_model": 16, "expansion": 2}
    fit(twin, data).save_checkpoint(tmp_path / "a.ckpt")
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.dictionary.shape == (32, 16)
    assert torch.equal(loaded(data.rows).to_dense(), twin(data.rows).to_dense())


def test_the_hyper_parameters_of_a_fresh_twin_stay_plain_whatever_is_changed(data, tmp_path, fit):
    twin = SparseCodingModule(16, lam=LAM).fresh(
        coder=GreedyCoder(max_atoms=1), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )
    fit(twin, data).save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded(data.rows).crow_indices().diff().max() == 1
