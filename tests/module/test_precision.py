"""The user's settings of precision do not reach a fit: all that autocast or TF32 could make coarser is guarded."""

import pytest
import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.callbacks import AdaptivePenalty, ResampleDeadAtoms
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def fit_in(fit):
    """Fits a problem in a precision of the trainer; gives the module."""

    def fit_in(precision):
        rows = {"num_features": 256, "active": 3, "num_samples": 1000}
        data = SparseLinear(d_model=128, **rows, batch_size=512, batches_per_round=4)
        module = SparseCodingModule(128, expansion=4)
        fit(module, data, AdaptivePenalty(), ResampleDeadAtoms(), max_epochs=2, precision=precision)
        return module

    return fit_in


def test_autocast_and_coarse_products_leave_a_fit_as_it_is(fit_in):
    expected = fit_in("32-true")
    torch.set_float32_matmul_precision("medium")
    try:
        coarse = fit_in("bf16-mixed")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(coarse.dictionary.atoms, expected.dictionary.atoms)
    assert coarse.scores == expected.scores
