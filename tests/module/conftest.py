from collections.abc import Callable
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.coding import GreedyCoder, greedy_encode
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def small_data() -> Callable[..., SparseLinear]:
    """Makes small problems with a known answer: 900 training rows and 100 held out, 12 batches a round."""
    rows = {"num_features": 32, "active": 1.5, "noise": 0.01, "num_samples": 1000}
    rounds = {"batch_size": 128, "batches_per_round": 12}
    return lambda **settings: SparseLinear(d_model=16, **{**rows, **rounds, **settings})


@pytest.fixture
def data(small_data) -> SparseLinear:
    """Such a problem."""
    return small_data()


@pytest.fixture
def trainer(quiet_trainer) -> Callable[..., Trainer]:
    """Makes quiet trainers, of one round unless told."""
    return partial(quiet_trainer, max_epochs=1)


@pytest.fixture
def fit(trainer) -> Callable[..., Trainer]:
    """Fits with a quiet trainer, and returns that."""

    def fit(module: SparseCodingModule, data: ActivationDataModule, *callbacks: Callback, **settings) -> Trainer:
        fitted = trainer(callbacks=list(callbacks), **settings)
        fitted.fit(module, data)
        return fitted

    return fit


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Makes any training step an error."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))


@pytest.fixture
def standardised() -> Callable[[SparseCodingModule, torch.Tensor], torch.Tensor]:
    """Centres and scales rows as a module does."""
    return lambda module, rows: module.dictionary.standardise(rows).detach()


@pytest.fixture
def objective() -> Callable[[torch.Tensor, torch.Tensor, float], float]:
    """The paper's equation 1 with greedy codes, in NumPy."""

    def objective(x: torch.Tensor, atoms: torch.Tensor, lam: float) -> float:
        codes = greedy_encode(x, atoms.detach(), lam).to_dense().double().numpy()
        residual = x.double().numpy() - codes @ atoms.detach().double().numpy()
        return ((residual**2).sum() + lam * codes.sum()) / len(x)

    return objective


@pytest.fixture
def objective_stopping() -> Callable[..., EarlyStopping]:
    """Makes callbacks that end the rounds where the objective no longer falls, which it always does a little."""
    return partial(EarlyStopping, monitor="train/L", mode="min", patience=100)


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
    """Notes the rate of every step and the atoms after every batch; and those that the training begins with."""

    def __init__(self):
        self.rates, self.atoms, self.kept = [], [], []

    def on_train_start(self, trainer, pl_module):
        self.first = pl_module.dictionary.atoms.detach().clone()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.kept.append(len(trainer.optimizers[0].state))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.atoms.append(pl_module.dictionary.atoms.detach().clone())


class Rounds(Callback):
    """Notes where each round's penalty begins and ends."""

    def __init__(self):
        self.spans = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.spans.append((float(pl_module.lam_from), float(pl_module.lam)))


@pytest.fixture
def spy() -> Spy:
    """A coder and callback that notes the penalties of training and of scoring."""
    return Spy()


@pytest.fixture
def new_diary() -> type[Diary]:
    """Makes a diary for each of several fits."""
    return Diary


@pytest.fixture
def diary(new_diary) -> Diary:
    """A callback that notes the learning rate and the atoms of every batch."""
    return new_diary()


@pytest.fixture
def rounds() -> Rounds:
    """A callback that notes where each round's penalty begins and ends."""
    return Rounds()
