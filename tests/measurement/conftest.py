from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import ActivationDataModule, Control, Place, Source, SourceActivations, TensorSource
from sparsecode_pl.measurement import Fit, measure
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture(scope="module", autouse=True)
def quick(empty_figures) -> None:
    """Spares every short fit its figures."""


def _data(**settings) -> SparseLinear:
    """A small problem with a known answer: 500 rows, 6 batches a round."""
    defaults = {"num_features": 32, "active": 1.5, "num_samples": 500, "batch_size": 128, "batches_per_round": 6}
    return SparseLinear(d_model=16, **{**defaults, **settings})


@pytest.fixture(scope="session")
def make_data() -> Callable[..., SparseLinear]:
    """Makes small problems with a known answer."""
    return _data


def _words(**settings) -> SourceActivations:
    """Rows that token and place tell: 1,200 of them, of 150 token types in 60 documents."""
    random = torch.Generator().manual_seed(0)
    token = torch.multinomial(1 / torch.arange(1.0, 151), 1200, replacement=True, generator=random)
    place = torch.randint(40, (1200,), generator=random)
    features = torch.nn.functional.normalize(torch.randn(16, 8, generator=random))
    parts = torch.rand(150 * 40, 16, generator=random)
    of_token = (torch.rand(150, 1, 16, generator=random) < 0.15).expand(-1, 40, -1).reshape(-1, 16)
    of_place = torch.rand(150 * 40, 16, generator=random) < 0.1
    rows = ((of_token | of_place) * parts) @ features
    rows += 0.05 * torch.randn(rows.shape, generator=random)
    columns = {"token_id": token, "document": torch.arange(1200) // 20}
    source = TensorSource(rows[40 * token + place], label="words", columns=columns)
    return SourceActivations(source, **{"batch_size": 128, "batches_per_round": 6, **settings})


@pytest.fixture(scope="session")
def words() -> Callable[..., SourceActivations]:
    """Makes small text, of which some rows are copies of others."""
    return _words


@pytest.fixture
def fit(tmp_path):
    """Makes a fit of given scores, whose folder lies in the run folder `tmp_path`."""

    def make(name, seed=0, **scores):
        return Fit(seed, tmp_path / name / f"seed_{seed}", {"S1": 2.0, "num_samples": 90, **scores})

    return make


@pytest.fixture
def with_sums(fit):
    """Makes a fit with sums of 30 documents, training rows and held-out rows, whose S1 is 2 times the factor."""

    def make(name, seed=0, factor=1.0):
        random = np.random.default_rng(0)
        rows = random.integers(1, 9, 30)
        sums = np.stack([rows, 3 * rows, factor * (rows + random.poisson(rows)), rows, *[rows] * 5], axis=1) * 1.0
        both = {"sums": sums, "heldout_sums": sums[:20]}
        scores = {f"{prefix}S1": float(sums[:, 2].sum() / sums[:, 3].sum()) for prefix in ("", "heldout_")}
        return replace(fit(name, seed, **scores), sums=both)

    return make


@pytest.fixture
def run(quiet_trainer, tmp_path) -> Callable[..., list[dict[str, Any]]]:
    """Measures with quiet trainers, into a temporary folder."""

    def trainer(module: SparseCodingModule, folder: Path) -> Trainer:
        return quiet_trainer(max_epochs=2, callbacks=[AdaptivePenalty()] if module.fixed_lam is None else [])

    def run(module: SparseCodingModule, data: ActivationDataModule, *controls: Control, **options):
        return measure(module, data, controls, **{"folder": tmp_path / "runs", "trainer": trainer, **options})

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
            self.broken = broken
            self._sources = [self._source(number, width, model) for number, width in enumerate(widths)]

        def sources(self) -> list[Source]:
            return self._sources

        @staticmethod
        def _source(number: int, width: int, model: str) -> Source:
            random = torch.Generator().manual_seed(number)
            features = torch.nn.functional.normalize(torch.randn(2 * width, width, generator=random))
            active = torch.rand(300, len(features), generator=random) < 0.1
            rows = active * torch.rand(active.shape, generator=random) @ features
            rows += 1e-3 * torch.randn(rows.shape, generator=random)  # no two are equal, which would move the split
            return TensorSource(rows, label=f"{model} layer {number}", place=Place(model, str(number)))

        def over(self, source: Source, *, control: bool = False) -> ActivationDataModule:
            settings = {"batch_size": self.batch_size, "batches_per_round": self.batches_per_round, "seed": self.seed}
            number = self._sources.index(source) if source in self._sources else None
            made = Broken if number is not None and number == self.broken else SourceActivations
            return made(source, val_split=self.val_split, **settings)

        def rank_batch(self, epoch: int, index: int) -> torch.Tensor:
            if self.broken == 0:  # its one layer
                raise RuntimeError("the disk is gone")
            return super().rank_batch(epoch, index)

    class Broken(SourceActivations):
        """Data whose batches fail."""

        def rank_batch(self, epoch: int, index: int) -> torch.Tensor:
            raise RuntimeError("the disk is gone")

    return Layered


@pytest.fixture
def no_fit(monkeypatch) -> None:
    """Makes any training step an error."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
