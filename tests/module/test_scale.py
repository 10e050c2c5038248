"""A fit gives the same scores at any scale of the data that the dtype can hold."""

import pytest
import torch

from sparsecode_pl import Dictionary
from sparsecode_pl.callbacks import AdaptivePenalty, ResampleDeadAtoms
from sparsecode_pl.coding import LassoCoder, RefinedCoder
from sparsecode_pl.data import TensorActivations
from sparsecode_pl.measurement.penalty import largest_penalty
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def fit_at(small_data, fit):
    """Fits the small problem at a scale of the data; gives the module."""

    def fit_at(factor, **settings):
        rows = small_data().load()
        module = SparseCodingModule(16, expansion=4, **settings)
        data = TensorActivations(factor * rows, batches_per_round=12, batch_size=128)
        fit(module, data, AdaptivePenalty(), ResampleDeadAtoms(), max_epochs=2)
        return module

    return fit_at


# About 1e-30, 1e-19, 1e18 and 1e30. A power of two changes no digit, so the scores are equal to the last one.
SCALES = [2.0**-100, 2.0**-63, 2.0**60, 2.0**100]


@pytest.mark.parametrize("optimizer", ["MeanFieldNewton", "Adam"])
def test_scores_do_not_depend_on_the_scale(fit_at, optimizer):
    settings = {} if optimizer == "MeanFieldNewton" else {"optimizer": lambda p: torch.optim.Adam(p, lr=0.02)}
    expected = fit_at(1.0, **settings)
    for scale in SCALES:
        module = fit_at(scale, **settings)
        assert torch.equal(module.dictionary.atoms, expected.dictionary.atoms)
        assert module.dictionary.lam == scale * expected.dictionary.lam
        for rows in ("train", "heldout"):
            for name in ("S1", "N0", "L_norm", "explained_variance"):
                assert module.scores[f"{rows}/{name}"] == pytest.approx(expected.scores[f"{rows}/{name}"], rel=1e-9)


def test_where_the_dtype_ends_the_scale_is_named_with_the_cure(fit_at):
    with pytest.raises(ValueError, match=r"rows have an L2 norm above 2.1e\+37 .* divide x and lam by the same number"):
        fit_at(1e38)
    with pytest.raises(ValueError, match=r"lam is .*e-40, .* scale x and lam"):
        fit_at(2e-39)
    scaled = fit_at(2e-39, scale=True)  # divides by the mean norm
    assert scaled.scores["train/S1"] == pytest.approx(fit_at(1.0, scale=True).scores["train/S1"], rel=0.02)


@pytest.mark.parametrize("coder", [RefinedCoder(), LassoCoder(), LassoCoder(backend="torch")])
@pytest.mark.parametrize("scale", SCALES)
def test_other_coders_give_scaled_codes_too(coder, scale):
    generator = torch.Generator().manual_seed(0)
    x, atoms = torch.randn(40, 16, generator=generator), Dictionary.random(32, 16, generator).atoms
    codes = coder(scale * x, atoms, scale * 0.5).to_dense() / scale
    torch.testing.assert_close(codes, coder(x, atoms, 0.5).to_dense(), atol=2e-2, rtol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_the_penalty_of_a_share_scales(scale):
    generator = torch.Generator().manual_seed(0)
    dictionary, x = Dictionary.random(64, 16, generator), torch.randn(200, 16, generator=generator)
    penalties = [largest_penalty(dictionary, s * x, 0.9, 0.1 * s)[0] / s for s in (1.0, scale)]
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-9)
