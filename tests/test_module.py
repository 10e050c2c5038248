import copy
import math

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sparsecode_synthetic import SparseLinear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.coding import Coder, GreedyCoder, csr_codes, greedy_encode
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.metrics.functional import atom_recovery
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.optimizer import MeanFieldNewton
from sparsecode_pl.utilities.seeding import generator

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:lam has not settled"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

LAM = 0.08
BATCHES = 12


@pytest.fixture
def data():
    return small_data()


def small_data(**settings):
    defaults = {"num_features": 32, "active": 1.5, "noise": 0.01, "num_samples": 1000, "batch_size": 128}
    return SparseLinear(d_model=16, **{**defaults, "batches_per_round": BATCHES, **settings})


def trainer(**settings):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", devices=1, **{**quiet, "num_sanity_val_steps": 0, "max_epochs": 1, **settings})


def fit(module, data, *callbacks, **settings):
    """Fit with a quiet trainer, and return that."""
    fitted = trainer(callbacks=list(callbacks), **settings)
    fitted.fit(module, data)
    return fitted


def standardised(module, rows):
    return module.dictionary.standardise(rows).detach()


def objective(x, atoms, lam):
    """The paper's equation 1 with greedy codes, in NumPy."""
    codes = greedy_encode(x, atoms.detach(), lam).to_dense().double().numpy()
    residual = x.double().numpy() - codes @ atoms.detach().double().numpy()
    return ((residual**2).sum() + lam * codes.sum()) / len(x)


class Spy(GreedyCoder, Callback):
    """A greedy coder that notes the penalties it is asked for, and as a callback knows in training or in scoring."""

    def __init__(self):
        super().__init__()
        self.trained, self.scored = [], []
        self.noted = self.trained

    def encode(self, x, lam, bound):
        self.noted.append(lam)
        return super().encode(x, lam, bound)

    def on_validation_start(self, trainer, pl_module):
        self.noted = self.scored

    def on_validation_end(self, trainer, pl_module):
        self.noted = self.trained


class Diary(Callback):
    """Notes, for every batch, the learning rate and the atoms; and those that the training begins with."""

    def __init__(self):
        self.rates, self.atoms, self.kept = [], [], []

    def on_train_start(self, trainer, pl_module):
        self.first = pl_module.dictionary.atoms.detach().clone()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.kept.append(len(trainer.optimizers[0].state))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.atoms.append(pl_module.dictionary.atoms.detach().clone())


class Rounds(Callback):
    """Notes where each round's penalty begins and ends."""

    def __init__(self):
        self.spans = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.spans.append((float(pl_module.lam_from), float(pl_module.lam)))


def objective_stopping(**settings):
    return EarlyStopping(monitor="train/L", mode="min", patience=100, **settings)


# --- what it learns --------------------------------------------------------------------------------------------------


def test_alternation_lowers_the_objective_of_held_out_rows(data):
    module, diary = SparseCodingModule(16, expansion=4, lam=LAM), Diary()
    fit(module, data, diary)
    x = standardised(module, data.rows[data.heldout_index])
    learnt = objective(x, module.dictionary.atoms, LAM)
    assert learnt < 0.8 * objective(x, diary.first, LAM)
    assert learnt < 1.15 * objective(x, data.features, LAM)


def test_finds_planted_atoms():
    data = small_data(num_samples=2000, batch_size=256, batches_per_round=40)
    module = SparseCodingModule(16, expansion=4)
    fit(module, data, AdaptivePenalty(), max_epochs=3)
    assert atom_recovery(data.features, module.dictionary.atoms.detach()).mean_max_cosine > 0.97


def test_atoms_are_unit_after_every_batch(data):
    diary = Diary()
    fit(SparseCodingModule(16, expansion=4, lam=LAM), data, diary)
    assert len(diary.atoms) == BATCHES
    for atoms in diary.atoms:
        torch.testing.assert_close(atoms.norm(dim=1), torch.ones(64), atol=1e-5, rtol=0)
    assert not torch.equal(diary.atoms[-1], diary.first)


@pytest.mark.parametrize("scale", [False, True])
def test_centre_and_scale_are_those_of_the_training_rows(scale):
    rows = 5 + 3 * torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    data = TensorActivations(rows, val_split=0.3, batch_size=128, batches_per_round=2)
    module = SparseCodingModule(16, expansion=2, lam=LAM, scale=scale)
    fit(module, data)
    trained = rows[data.train_index].double().numpy()
    np.testing.assert_allclose(module.dictionary.centre.numpy(), trained.mean(0), rtol=1e-6)
    norm = np.linalg.norm(trained - trained.mean(0), axis=1).mean() if scale else 1.0
    assert float(module.dictionary.scale) == pytest.approx(norm, rel=1e-6)


def test_with_scale_the_unit_of_the_activations_does_not_matter(data):
    scores = []
    for unit in (1, 64):  # a power of two rounds nothing
        module = SparseCodingModule(16, expansion=2, scale=True)
        scaled = TensorActivations(unit * data.rows, batch_size=128, batches_per_round=BATCHES)
        run = fit(module, scaled, AdaptivePenalty(), max_epochs=2)
        scores.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_atoms_begin_as_directions_of_training_rows_or_anywhere(data):
    first = {}
    for init in ("data", "random"):
        module, diary = SparseCodingModule(16, num_atoms=48, lam=LAM, init=init), Diary()
        fit(module, data, diary)
        first[init] = diary.first
    x = torch.nn.functional.normalize(standardised(module, data.rows[data.train_index]), dim=1)
    nearest = {init: (atoms @ x.T).max(1).values for init, atoms in first.items()}
    torch.testing.assert_close(nearest["data"], torch.ones(48), atol=1e-5, rtol=0)
    assert nearest["random"].max() < 0.999
    assert torch.equal(first["random"], SparseCodingModule(16, num_atoms=48, init="random").dictionary.atoms)


def test_the_same_configuration_gives_the_same_numbers():
    states, scores = [], []
    for _ in range(2):
        module = SparseCodingModule(16, expansion=3, seed=5)
        run = fit(module, small_data(seed=1), AdaptivePenalty(), max_epochs=2)
        states.append(module.state_dict())
        scores.append(run.callback_metrics)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert scores[0] == scores[1]


def test_streamed_batches_train_and_fixed_rows_are_scored():
    data = small_data(stream=True)
    module, diary = SparseCodingModule(16, expansion=4, lam=LAM), Diary()
    run = fit(module, data, diary)
    x = standardised(module, data.rows[data.train_index])
    assert objective(x, module.dictionary.atoms, LAM) < 0.8 * objective(x, diary.first, LAM)
    assert float(run.callback_metrics["train/L"]) == pytest.approx(objective(x, module.dictionary.atoms, LAM), rel=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.float32), ("64-true", torch.float64)])
def test_other_precisions_keep_unit_atoms_and_learn_as_well(data, precision, dtype):
    runs = {}
    for name in ("32-true", precision):
        module = SparseCodingModule(16, expansion=4, lam=LAM)
        runs[name] = fit(module, data, precision=name).callback_metrics
    assert module.dictionary.atoms.dtype == dtype
    torch.testing.assert_close(module.dictionary.atoms.norm(dim=1), torch.ones(64, dtype=dtype), atol=1e-5, rtol=0)
    assert float(runs[precision]["train/L"]) == pytest.approx(float(runs["32-true"]["train/L"]), rel=0.02)


# --- penalty, rate and rounds ----------------------------------------------------------------------------------------


def test_a_first_round_at_fixed_lam_descends_to_it_from_three_times_and_is_the_only_one(data):
    spy = Spy()
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=spy)
    run = fit(module, data, spy, max_epochs=5)
    half = BATCHES // 2
    expected = [*np.linspace(3 * LAM, LAM, half, endpoint=False), *[LAM] * half]
    np.testing.assert_allclose(spy.trained, expected, rtol=1e-12)
    assert set(spy.scored) == {LAM}
    assert run.current_epoch == 1
    assert float(module.lam) == LAM


def test_early_stopping_makes_rounds_at_fixed_lam_that_the_cap_ends(data):
    spy, rounds = Spy(), Rounds()
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=spy)
    run = fit(module, data, objective_stopping(), rounds, spy, max_epochs=3)
    assert run.current_epoch == 3
    np.testing.assert_allclose(rounds.spans, [(3 * LAM, LAM), (LAM, LAM), (LAM, LAM)])
    np.testing.assert_allclose(spy.trained[BATCHES:], LAM)  # no second descent


def test_early_stopping_on_the_objective_ends_the_rounds(data):
    stopping = EarlyStopping(monitor="train/L", mode="min", patience=1, min_delta=1e6)  # nothing is improvement enough
    run = fit(SparseCodingModule(16, expansion=2, lam=LAM), data, stopping, max_epochs=9)
    assert run.current_epoch == 2


def test_an_adaptive_second_round_moves_from_the_old_penalty_to_the_new(data):
    spy, rounds = Spy(), Rounds()
    module = SparseCodingModule(16, expansion=2, coder=spy)
    fit(module, data, AdaptivePenalty(tolerance=1e-6), rounds, spy, max_epochs=2)
    (first_from, first), (second_from, second) = rounds.spans
    assert first_from == first == second_from != second
    half = BATCHES // 2
    np.testing.assert_allclose(spy.trained[:BATCHES], first)
    descent = [*np.linspace(first, second, half, endpoint=False), *[second] * half]
    np.testing.assert_allclose(spy.trained[BATCHES:], descent, rtol=1e-12)


def test_rate_falls_to_zero_within_each_round_and_begins_the_next_anew():
    diary = Diary()
    fit(
        SparseCodingModule(16, expansion=2, lam=LAM),
        small_data(batches_per_round=8),
        objective_stopping(),
        diary,
        max_epochs=2,
    )
    np.testing.assert_allclose(diary.rates, 2 * [*[0.2] * 5, 0.15, 0.1, 0.05])


def test_rate_follows_the_optimiser_steps_where_gradients_are_accumulated():
    diary, data = Diary(), small_data(batches_per_round=16)
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data, diary, accumulate_grad_batches=2)
    np.testing.assert_allclose(diary.rates[::2], [*[0.2] * 5, 0.15, 0.1, 0.05])


def test_each_round_begins_without_the_optimisers_memory(data):
    diary = Diary()
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data, objective_stopping(), diary, max_epochs=2)
    assert diary.kept == 2 * [0, *[1] * (BATCHES - 1)]


# --- the dictionary step ---------------------------------------------------------------------------------------------


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
def test_dictionary_steps_descend_the_objective_with_the_codes_fixed(steps):
    data = small_data(batches_per_round=1)
    module = SparseCodingModule(
        16,
        expansion=2,
        lam=LAM,
        init="random",
        dictionary_steps=steps,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    )
    x = data.train_batch(0, 0).double() - data.statistics.mean
    expected = by_hand(module, [x], 3 * LAM, 0.5, steps)
    assert (expected - module.dictionary.atoms).abs().max() > 0.005
    fit(module, data)
    torch.testing.assert_close(module.dictionary.atoms.detach().double(), expected, atol=1e-5, rtol=0)


def test_accumulated_gradients_are_the_mean_over_the_batches():
    data = small_data(batches_per_round=2)
    sgd = {"init": "random", "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.5)}
    module = SparseCodingModule(16, expansion=2, coder=GreedyCoder(), **sgd)
    module.set_penalty(LAM, lam_from=LAM)
    module.dictionary.centre.copy_(data.statistics.mean)
    batches = [data.train_batch(0, index).double() - data.statistics.mean for index in range(2)]
    expected = by_hand(module, batches, LAM, 0.5, steps=1)
    run = fit(module, data, accumulate_grad_batches=2)
    assert run.global_step == 1
    torch.testing.assert_close(module.dictionary.atoms.detach().double(), expected, atol=1e-5, rtol=0)


def test_steps_on_one_batch_share_its_codes_and_count_as_one(data):
    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            Counting.steps += 1
            return super().step(closure)

    spy = Spy()
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
def test_any_optimiser_serves(data, optimizer):
    used = []
    module = SparseCodingModule(
        16, expansion=4, lam=LAM, optimizer=lambda p: used.append(optimizer(p, lr=0.05)) or used[-1]
    )
    diary = Diary()
    run = fit(module, data, diary)
    assert type(run.optimizers[0]) is optimizer
    x = standardised(module, data.rows)
    assert objective(x, module.dictionary.atoms, LAM) < objective(x, diary.first, LAM)


def test_a_given_scheduler_steps_after_every_batch_instead_of_the_default():
    diary = Diary()
    module = SparseCodingModule(
        16,
        expansion=2,
        lam=LAM,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    fit(module, small_data(batches_per_round=3), objective_stopping(), diary, max_epochs=2)
    np.testing.assert_allclose(diary.rates, 0.2 * 0.5 ** np.arange(6))


def test_gradients_are_clipped_by_the_trainer(data):
    moved = []
    for clip in (None, 1e-5):
        diary = Diary()
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
def test_no_dense_codes_come_into_being_while_training_logging_and_scoring():
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


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_eval_lam_is_for_scoring_while_the_adaptive_penalty_follows_the_trained_one(data):
    spy = Spy()
    module = SparseCodingModule(16, expansion=2, eval_lam=0.2, coder=spy)
    run = fit(module, data, AdaptivePenalty(tolerance=1e-6), spy, max_epochs=2)
    lam = float(module.lam)
    assert 0.2 in spy.scored
    assert 0.2 not in spy.trained
    x = standardised(module, data.rows[data.train_index])
    scored, trained = (greedy_encode(x, module.dictionary.atoms.detach(), value) for value in (0.2, lam))
    assert float(run.callback_metrics["train/N0"]) == pytest.approx(scored.values().numel() / len(x), rel=1e-6)
    mean_max = float(trained.to_dense().max(1).values.mean())
    assert float(run.callback_metrics["train/mean_max"]) == pytest.approx(mean_max, rel=1e-6)
    assert torch.equal(module(data.rows[data.train_index]).to_dense(), scored.to_dense())
    predicted = trainer(inference_mode=False).predict(module, data)
    assert torch.equal(torch.cat([codes.to_dense() for _, codes in predicted]), module(data.rows).to_dense())


def test_predicted_codes_can_be_used_like_any_tensor(data):
    module = SparseCodingModule(16, expansion=2, lam=LAM)
    fit(module, data)
    _, codes = trainer().predict(module, data)[0]
    assert torch.equal(codes.to_dense(), module(data.rows[: len(codes)]).to_dense())


def test_without_held_out_rows_only_training_rows_are_scored():
    run = fit(SparseCodingModule(16, expansion=2, lam=LAM), small_data(val_split=0))
    assert "train/S1" in run.callback_metrics
    assert not [name for name in run.callback_metrics if name.startswith("heldout")]


def test_validate_and_test_give_the_scores_that_the_fit_ended_with(data):
    module = SparseCodingModule(16, expansion=2)
    run = fit(module, data, AdaptivePenalty(), max_epochs=2)
    final = {name: float(v) for name, v in run.callback_metrics.items() if name.startswith(("train/", "heldout/"))}
    assert len(final) == 12
    for stage in ("validate", "test"):
        results = getattr(trainer(), stage)(module, data, verbose=False)
        again = {name: value for loader in results for name, value in loader.items()}
        assert again == pytest.approx(final, rel=1e-9)


def test_codes_that_are_all_zero_warn_and_score_nan(data):
    module = SparseCodingModule(16, expansion=2, lam=1000.0)
    with pytest.warns(UserWarning, match="lam"):
        run = fit(module, data)
    scores = {name: float(value) for name, value in run.callback_metrics.items()}
    for rows in ("train", "heldout"):
        assert math.isnan(scores[f"{rows}/S1"])
        assert math.isnan(scores[f"{rows}/L_norm"])
        assert scores[f"{rows}/N0"] == 0
    assert scores["train/dead_atoms"] == 1
    x = standardised(module, data.rows[data.train_index])
    assert scores["train/L"] == pytest.approx(float(x.square().sum(1).mean()), rel=1e-5)
    assert torch.isfinite(module.dictionary.atoms).all()


def test_dead_atoms_are_those_that_no_training_row_uses(data):
    module = SparseCodingModule(16, num_atoms=200, lam=0.4)
    run = fit(module, data)
    codes = module(data.rows[data.train_index]).to_dense()
    share = float((codes.sum(0) == 0).double().mean())
    assert 0 < share < 1
    assert float(run.callback_metrics["train/dead_atoms"]) == pytest.approx(share, abs=1e-9)


def test_sanity_checking_with_an_adaptive_penalty_leaves_no_trace():
    scores = []
    for steps in (2, 0):
        module = SparseCodingModule(16, expansion=2)
        run = fit(module, small_data(), AdaptivePenalty(), num_sanity_val_steps=steps, max_epochs=2)
        scores.append((run.callback_metrics, module.state_dict()))
    assert scores[0][0] == scores[1][0]
    assert all(torch.equal(value, scores[1][1][name]) for name, value in scores[0][1].items())


# --- copies and checkpoints ------------------------------------------------------------------------------------------


def test_fresh_is_an_untrained_twin_with_other_atoms_and_leaves_the_original_alone(data):
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


def test_a_fresh_twin_of_another_width_keeps_what_was_not_changed(data, tmp_path):
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


def test_the_hyper_parameters_of_a_fresh_twin_stay_plain_whatever_is_changed(data, tmp_path):
    twin = SparseCodingModule(16, lam=LAM).fresh(
        coder=GreedyCoder(max_atoms=1), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )
    fit(twin, data).save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded(data.rows).crow_indices().diff().max() == 1


# --- a dictionary that is not learnt ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`")
@pytest.mark.parametrize("init", ["data", "random"])
def test_without_learning_the_atoms_stay_and_the_penalty_settles(data, tmp_path, init):
    module = SparseCodingModule(16, expansion=2, init=init, learn=False, dictionary_steps=2)
    rounds = Rounds()
    start = SparseCodingModule(16, expansion=2, init=init)
    if init == "data":
        random = generator(0)
        start.dictionary.centre.copy_(data.statistics.mean)
        start.dictionary.start_from(data.sample(32, random), random)
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
def test_a_checkpoint_of_a_dictionary_that_is_not_learnt_can_be_gone_on_from(data, tmp_path):
    module = SparseCodingModule(16, expansion=2, learn=False, lr_scheduler=lambda _: pytest.fail("nothing is learnt"))
    fit(module, data, AdaptivePenalty(tolerance=1e-9), max_epochs=1).save_checkpoint(tmp_path / "a.ckpt")
    again = module.fresh()
    resumed = trainer(callbacks=[AdaptivePenalty(tolerance=1e-9)], max_epochs=2)
    resumed.fit(again, data, ckpt_path=tmp_path / "a.ckpt")
    assert resumed.current_epoch == 2
    assert torch.equal(again.dictionary.atoms, module.dictionary.atoms)
    assert float(again.lam) < float(module.lam)


@pytest.fixture
def checkpoint(data, tmp_path):
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


def test_a_checkpoint_keeps_the_settings_of_its_coder(data, tmp_path):
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=GreedyCoder(max_atoms=1))
    fit(module, data).save_checkpoint(tmp_path / "a.ckpt")
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded(data.rows).crow_indices().diff().max() == 1


def test_resuming_at_the_end_of_a_round_changes_nothing(tmp_path):
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


def test_a_run_that_the_cap_ended_goes_on_at_fixed_lam_as_if_it_had_not(tmp_path):
    whole, part = (SparseCodingModule(16, expansion=2, lam=LAM) for _ in range(2))
    fit(whole, small_data(), objective_stopping(), max_epochs=2)
    fit(part, small_data(), objective_stopping(), max_epochs=1).save_checkpoint(tmp_path / "a.ckpt")
    resumed = SparseCodingModule(16, expansion=2, lam=LAM)
    trainer(callbacks=[objective_stopping()], max_epochs=2).fit(resumed, small_data(), ckpt_path=tmp_path / "a.ckpt")
    assert not torch.equal(part.dictionary.atoms, whole.dictionary.atoms)
    assert torch.equal(resumed.dictionary.atoms, whole.dictionary.atoms)


# --- bad input -------------------------------------------------------------------------------------------------------


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
        ({"init": "zeros"}, "init is 'zeros': give 'data' or 'random'"),
    ],
)
def test_a_bad_argument_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SparseCodingModule(**{"d_model": 16, **settings})


def untrained(monkeypatch):
    """Make any training step an error."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))


def test_a_width_that_is_not_the_datas_is_refused(data, monkeypatch):
    untrained(monkeypatch)
    with pytest.raises(ValueError, match=r"d_model is 8, but SparseLinear a=1.5 has width 16"):
        fit(SparseCodingModule(8, lam=LAM), data)


def test_no_penalty_at_all_is_refused(data, monkeypatch):
    untrained(monkeypatch)
    with pytest.raises(ValueError, match="lam is None: give a penalty above 0, or add the callback AdaptivePenalty"):
        fit(SparseCodingModule(16), data)


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`")
def test_loaders_without_a_data_module_are_refused(monkeypatch):
    untrained(monkeypatch)
    with pytest.raises(TypeError, match=r"give an ActivationDataModule; sparsecode_pl\.data\.TensorActivations"):
        trainer().fit(SparseCodingModule(16, lam=LAM), DataLoader(torch.randn(64, 16), batch_size=8))


def test_several_steps_with_accumulated_gradients_are_refused(data, monkeypatch):
    untrained(monkeypatch)
    with pytest.raises(ValueError, match=r"dictionary_steps is 2 and trainer.accumulate_grad_batches is 4: set one"):
        fit(SparseCodingModule(16, lam=LAM, dictionary_steps=2), data, accumulate_grad_batches=4)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_dictionary_that_nobody_has_learnt_is_not_scored(data, stage):
    with pytest.raises(RuntimeError, match="no learnt dictionary to score: give ckpt_path, or fit first"):
        getattr(trainer(), stage)(SparseCodingModule(16, lam=LAM), data)


@pytest.mark.parametrize(("lam", "lam_from", "name"), [(0.0, 1.0, "lam is"), (1.0, math.nan, "lam_from is")])
def test_set_penalty_refuses_what_is_no_penalty(lam, lam_from, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        SparseCodingModule(4).set_penalty(lam, lam_from)


@pytest.mark.parametrize(
    "settings",
    [{"limit_val_batches": 1}, {"limit_val_batches": 0.5}, {"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}],
)
def test_scoring_part_of_the_rows_or_in_mid_round_is_refused(data, settings):
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError, match=f"{name} is {value}, but all rows are scored after each round"):
        fit(SparseCodingModule(16, expansion=2, lam=LAM), data, **settings)


def test_as_many_atoms_as_training_rows_are_warned_of():
    with pytest.warns(UserWarning, match="num_atoms is 128, and there are 90 training rows"):
        fit(SparseCodingModule(16, expansion=8, lam=LAM), small_data(num_samples=100))


def test_the_start_is_drawn_fresh_where_the_data_streams():
    module, data = SparseCodingModule(16, expansion=2, lam=LAM), small_data(stream=True)
    directions = []

    class Start(Callback):
        def on_fit_start(self, trainer, pl_module):
            directions.append(pl_module.dictionary.atoms.detach().clone())

    fit(module, data, Start())
    scored = torch.nn.functional.normalize(standardised(module, data.rows), dim=1)
    assert (directions[0] @ scored.T).max() < 1 - 1e-4


def test_a_run_that_ended_at_its_cap_goes_on_as_if_it_had_not(data, tmp_path):
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


def test_a_penalty_given_to_a_resumed_run_is_the_one_in_use(data, tmp_path):
    fit(SparseCodingModule(16, expansion=2, lam=LAM), data).save_checkpoint(tmp_path / "a.ckpt")
    resumed, rounds = SparseCodingModule(16, expansion=2, lam=2 * LAM), Rounds()
    trainer(callbacks=[rounds], max_epochs=2).fit(resumed, data, ckpt_path=tmp_path / "a.ckpt")
    assert rounds.spans == [(LAM, 2 * LAM)]
    assert float(resumed.lam) == 2 * LAM


class Counting(GreedyCoder):
    """Keeps the Gram matrices of its calls, None where there is none to share."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode(self, x, lam, bound):
        self.calls.append(bound.gram)
        assert bound.gram is None or torch.allclose(bound.gram, bound.atoms @ bound.atoms.T, atol=1e-6)
        return super().encode(x, lam, bound)


def test_scoring_forms_the_gram_matrix_once_and_nothing_else_uses_it(data):
    coder = Counting()
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=coder)
    fit(module, data, max_epochs=1)
    assert coder.calls[:BATCHES] == [None] * BATCHES
    assert len(coder.calls) > BATCHES
    assert coder.calls[BATCHES] is not None
    assert all(gram is coder.calls[BATCHES] for gram in coder.calls[BATCHES:])
    coder.calls.clear()
    module(data.rows[:5])
    assert coder.calls == [None]


def test_the_dictionary_step_is_told_the_codes_of_each_batch_once(data, monkeypatch):
    told = []
    observe = MeanFieldNewton.observe
    monkeypatch.setattr(
        MeanFieldNewton, "observe", lambda self, moments: told.append(moments) or observe(self, moments)
    )
    fit(SparseCodingModule(16, expansion=2, lam=LAM, dictionary_steps=3), data, max_epochs=1)
    assert len(told) == BATCHES
    assert all(moments.shape == (2, 32) and (moments[1] >= moments[0] ** 2).all() for moments in told)
