"""The trainer's precision. Codes and gradient are always found in the precision of the atoms."""

import pytest
import torch

from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def fitted(data, fit):
    """Fits at a precision, for two rounds, and gives the module."""

    def fitted(precision: str) -> SparseCodingModule:
        module = SparseCodingModule(16, expansion=4)
        fit(module, data, AdaptivePenalty(), max_epochs=2, precision=precision)
        return module

    return fitted


# On a CPU, Lightning makes 16-mixed bf16-mixed, and warns of it.
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_changes_nothing(fitted, precision):
    expected, found = fitted("32-true"), fitted(precision)
    assert found.dictionary.atoms.dtype == torch.float32
    assert torch.equal(found.dictionary.atoms, expected.dictionary.atoms)
    assert found.dictionary.lam == expected.dictionary.lam
    assert found.scores == expected.scores


def test_coarse_products_that_the_user_allows_change_nothing(fitted):
    expected = fitted("32-true")
    torch.set_float32_matmul_precision("medium")
    try:
        found = fitted("32-true")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.dictionary.atoms, expected.dictionary.atoms)
    assert found.scores == expected.scores


def test_double_precision_learns_as_well(fitted):
    expected, found = fitted("32-true"), fitted("64-true")
    atoms = found.dictionary.atoms
    assert atoms.dtype == torch.float64
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(64, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found.scores["train/L"] == pytest.approx(expected.scores["train/L"], rel=0.02)
