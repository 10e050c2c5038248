import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from sparsecode_pl.metrics import NormalizedLoss
from sparsecode_pl.metrics.functional import average_coefficient_norm, normalized_loss


@given(lam=st.floats(1e-6, 1e6), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_equals_s1_when_the_reconstruction_is_perfect(make_rows, lam, seed):
    codes = torch.tensor(make_rows(20, seed).codes)
    assert_close(normalized_loss(codes, torch.zeros(20, 3), lam), average_coefficient_norm(codes), rtol=1e-12, atol=0)


def test_each_row_counts_with_its_own_penalty():
    metric = NormalizedLoss()
    metric.update(codes=torch.tensor([[1.0, 1.0]]), residual=torch.tensor([[2.0]]), lam=1.0)
    metric.update(codes=torch.tensor([[3.0, 0.0]]), residual=torch.tensor([[1.0]]), lam=0.5)
    assert_close(metric.compute().item(), (4 + 1 * 2 + 1 + 0.5 * 3) / (1 * 1 + 0.5 * 3))


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_all_zero_codes_warn_that_lam_is_too_large(csr, layout):
    codes = csr(torch.zeros(3, 4)) if layout == "csr" else torch.zeros(3, 4)
    metric = NormalizedLoss()
    metric.update(codes=codes, residual=torch.ones(3, 2), lam=5.0)
    metric.update(codes=codes.to_dense()[:0], residual=torch.ones(0, 2), lam=5.0)
    with pytest.warns(UserWarning, match=r"normalized_loss is NaN.*lam is too large.*lower it"):
        assert metric.compute().isnan()
