"""The trainer's precision and the user's settings of it. Codes and gradient are always found in that of the atoms."""

import pytest
import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.callbacks import AdaptivePenalty, ResampleDeadAtoms
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def fitted(fit):
    """Fits at a precision of the trainer, for two rounds, and gives the module."""

    def fitted(precision: str) -> SparseCodingModule:
        rows = {"num_features": 256, "active": 3, "num_samples": 1000}
        data = SparseLinear(d_model=128, **rows, batch_size=512, batches_per_round=4)
        module = SparseCodingModule(128, expansion=4)
        fit(module, data, AdaptivePenalty(), ResampleDeadAtoms(), max_epochs=2, precision=precision)
        return module

    return fitted


# On a CPU, Lightning makes 16-mixed bf16-mixed, and warns of it.
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_autocast_and_coarse_products_leave_a_fit_as_it_is(fitted, precision):
    expected = fitted("32-true")
    torch.set_float32_matmul_precision("medium")
    try:
        coarse = fitted(precision)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert coarse.dictionary.atoms.dtype == torch.float32
    assert torch.equal(coarse.dictionary.atoms, expected.dictionary.atoms)
    assert coarse.dictionary.lam == expected.dictionary.lam
    assert coarse.scores == expected.scores


def test_double_precision_learns_as_well(fitted):
    expected, found = fitted("32-true"), fitted("64-true")
    atoms = found.dictionary.atoms
    assert atoms.dtype == torch.float64
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(512, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found.scores["train/L"] == pytest.approx(expected.scores["train/L"], rel=0.02)
