from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import ActivationDataModule, Place
from sparsecode_pl.measurement import measure
from sparsecode_pl.module import SparseCodingModule


def _data(**settings) -> SparseLinear:
    """A small problem with a known answer: 500 rows, 6 batches a round."""
    defaults = {"num_features": 32, "active": 1.5, "num_samples": 500, "batch_size": 128, "batches_per_round": 6}
    return SparseLinear(d_model=16, **{**defaults, **settings})


@pytest.fixture
def make_data() -> Callable[..., SparseLinear]:
    """Makes small problems with a known answer."""
    return _data


def _trainer(module: SparseCodingModule, folder: Path) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    callbacks = [AdaptivePenalty()] if module.fixed_lam is None else []
    return Trainer(accelerator="cpu", devices=1, max_epochs=2, num_sanity_val_steps=0, callbacks=callbacks, **quiet)


@pytest.fixture
def run(tmp_path) -> Callable[..., list[dict[str, Any]]]:
    """Measures with quiet trainers, into a temporary folder."""

    def run(module: SparseCodingModule, data: ActivationDataModule, *controls: ActivationDataModule, **options):
        return measure(module, data, controls, **{"folder": tmp_path / "runs", "trainer": _trainer, **options})

    return run


@pytest.fixture(scope="session")
def layered() -> type[ActivationDataModule]:
    """Data of several layers."""

    # Made in here so that it is pickled whole: worker processes cannot import what pytest has.
    class Layered(ActivationDataModule):
        """Sparse rows of several layers of a made-up model: 300 rows, 4 batches a round.

        Args:
            widths: one for each layer.
            model: name of the model.
            broken: number of a layer whose batches fail, once training has begun.
        """

        def __init__(
            self, widths: Sequence[int] = (8, 8), model: str = "toy", broken: int | None = None, **kwargs
        ) -> None:
            super().__init__(**{"batch_size": 64, "batches_per_round": 4, **kwargs})
            self.widths, self.model, self.broken = widths, model, broken
            self.number: int | None = None

        def parts(self) -> list[ActivationDataModule]:
            return [self._part(number) for number in range(len(self.widths))] if self.number is None else [self]

        def _part(self, number: int) -> ActivationDataModule:
            part = copy(self)
            part.number = number
            return part

        @property
        def place(self) -> Place | None:
            return None if self.number is None else Place(self.model, str(self.number))

        @property
        def label(self) -> str:
            return f"{self.model} layer {self.number}"

        @property
        def d_model(self) -> int:
            return self.widths[self.number or 0]

        def load(self) -> torch.Tensor:
            random = torch.Generator().manual_seed(self.number)
            features = torch.nn.functional.normalize(torch.randn(2 * self.d_model, self.d_model, generator=random))
            active = torch.rand(300, len(features), generator=random) < 0.1
            return active * torch.rand(active.shape, generator=random) @ features

        def train_batch(self, epoch: int, index: int) -> torch.Tensor:
            if self.number == self.broken:
                raise RuntimeError("the disk is gone")
            return super().train_batch(epoch, index)

    return Layered


@pytest.fixture
def no_fit(monkeypatch) -> None:
    """Makes any training step an error."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
