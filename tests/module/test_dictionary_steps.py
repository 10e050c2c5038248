import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sparsecode_pl.coding import Coder, GreedyCoder, csr_codes, greedy_encode
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.optimizer import MeanFieldNewton

LAM = 0.08
UNIT = 0.125  # the next power of two, in whose units the loss is
BATCHES = 12


def by_hand(module, batches, lam, rate, steps):
    """The dictionary after gradient steps on the mean objective of some batches, dense and in float64."""
    atoms = module.dictionary.atoms.detach().double()
    problems = [(x, greedy_encode(x.float(), atoms.float(), lam).to_dense().double()) for x in batches]
    for _ in range(steps):
        gradient = sum(-2 * codes.T @ (x - codes @ atoms) / len(x) for x, codes in problems) / len(problems)
        atoms = atoms - rate * gradient
        atoms = atoms / atoms.norm(dim=1, keepdim=True)
    return atoms


@pytest.mark.parametrize("steps", [1, 3])
def test_dictionary_steps_descend_the_objective_with_the_codes_fixed(steps, small_data, fit):
    data = small_data(batches_per_round=1)
    module = SparseCodingModule(
        16,
        expansion=2,
        lam=LAM,
        init="random",
        dictionary_steps=steps,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5 * UNIT**2),
    )
    x = data.train_batch(0, 0).double() - data.statistics.mean
    expected = by_hand(module, [x], 3 * LAM, 0.5, steps)
    assert (expected - module.dictionary.atoms).abs().max() > 0.005
    fit(module, data)
    torch.testing.assert_close(module.dictionary.atoms.detach().double(), expected, atol=1e-5, rtol=0)


def test_accumulated_gradients_are_the_mean_over_the_batches(small_data, fit):
    data = small_data(batches_per_round=2)
    sgd = {"init": "random", "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.5 * UNIT**2)}
    module = SparseCodingModule(16, expansion=2, coder=GreedyCoder(), **sgd)
    module.set_penalty(LAM, lam_from=LAM)
    module.dictionary.centre.copy_(data.statistics.mean)
    batches = [data.train_batch(0, index).double() - data.statistics.mean for index in range(2)]
    expected = by_hand(module, batches, LAM, 0.5, steps=1)
    run = fit(module, data, accumulate_grad_batches=2)
    assert run.global_step == 1
    torch.testing.assert_close(module.dictionary.atoms.detach().double(), expected, atol=1e-5, rtol=0)


def test_steps_on_one_batch_share_its_codes_and_count_as_one(data, spy, fit):
    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            Counting.steps += 1
            return super().step(closure)

    module = SparseCodingModule(
        16,
        expansion=2,
        lam=LAM,
        coder=spy,
        dictionary_steps=3,
        optimizer=lambda parameters: Counting(parameters, lr=0.1),
    )
    run = fit(module, data, spy)
    assert Counting.steps == 3 * BATCHES
    assert len(spy.trained) == BATCHES
    assert run.global_step == BATCHES


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_any_optimiser_serves(data, optimizer, diary, fit, standardised, objective):
    used = []
    module = SparseCodingModule(
        16, expansion=4, lam=LAM, optimizer=lambda p: used.append(optimizer(p, lr=0.05)) or used[-1]
    )
    run = fit(module, data, diary)
    assert type(run.optimizers[0]) is optimizer
    x = standardised(module, data.rows)
    assert objective(x, module.dictionary.atoms, LAM) < objective(x, diary.first, LAM)


def test_a_given_scheduler_steps_after_every_batch_instead_of_the_default(diary, small_data, fit, objective_stopping):
    module = SparseCodingModule(
        16,
        expansion=2,
        lam=LAM,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    fit(module, small_data(batches_per_round=3), objective_stopping(), diary, max_epochs=2)
    np.testing.assert_allclose(diary.rates, 0.2 * 0.5 ** np.arange(6))


def test_gradients_are_clipped_by_the_trainer(data, new_diary, fit):
    moved = []
    for clip in (None, 1e-5):
        diary = new_diary()
        module = SparseCodingModule(
            16, expansion=2, lam=LAM, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0)
        )
        fit(module, data, diary, gradient_clip_val=clip)
        moved.append(float((diary.atoms[0] - diary.first).norm()))
    assert moved[0] > 1e-3
    assert 1e-7 < moved[1] < 1.1e-5


class Given(Coder):
    """Answers with codes of two atoms a sample, made without looking at anything n x m."""

    def encode(self, x, lam, bound):
        n, m = len(x), len(bound.atoms)
        col = torch.stack([torch.arange(n) % (m // 2), m // 2 + torch.arange(n) % (m // 2)], dim=1).flatten()
        return csr_codes(torch.arange(0, 2 * n + 1, 2), col, torch.full((2 * n,), 0.3), m)


class Shapes(TorchDispatchMode):
    """Notes the shape of every strided tensor that comes into being."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                self.seen.add(tuple(tensor.shape))
        return out


@pytest.mark.filterwarnings("ignore:num_atoms is 4096")
def test_no_dense_codes_come_into_being_while_training_logging_and_scoring(fit):
    n, m, d = 200, 4096, 4
    rows = torch.randn(1000, d, generator=torch.Generator().manual_seed(0))
    data = TensorActivations(rows, batch_size=n, batches_per_round=3)
    module = SparseCodingModule(d, num_atoms=m, lam=0.1, coder=Given(), init="random")
    shapes = Shapes()
    with shapes:
        fit(module, data, log_every_n_steps=1)
    assert (m, d) in shapes.seen  # the gradient, among others
    assert (n, d) in shapes.seen
    assert not [shape for shape in shapes.seen if math.prod(shape) >= n * m]
    with shapes:
        Given()(rows[:n], torch.zeros(m, d), 0.1).to_dense()
    assert (n, m) in shapes.seen  # such a tensor would not have escaped


def test_the_dictionary_step_is_told_the_codes_of_each_batch_once(data, monkeypatch, fit):
    told = []
    observe = MeanFieldNewton.observe
    monkeypatch.setattr(
        MeanFieldNewton, "observe", lambda self, moments: told.append(moments) or observe(self, moments)
    )
    fit(SparseCodingModule(16, expansion=2, lam=LAM, dictionary_steps=3), data, max_epochs=1)
    assert len(told) == BATCHES
    assert all(moments.shape == (2, 32) and (moments[1] >= moments[0] ** 2).all() for moments in told)
