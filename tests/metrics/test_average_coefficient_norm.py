import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from sparsecode_pl.metrics import AverageCoefficientNorm
from sparsecode_pl.metrics.functional import average_coefficient_norm


@given(p=st.floats(0.1, 5), sizes=st.lists(st.floats(0.1, 10), min_size=1, max_size=5))
def test_one_sparse_codes_score_one(p, sizes):
    assert_close(average_coefficient_norm(torch.diag(torch.tensor(sizes)), p).item(), 1.0)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_equal_coefficients_are_counted(p):
    assert_close(average_coefficient_norm(torch.tensor([[2.0, 2.0, 0.0, 2.0]]), p).item(), 3.0)


def test_a_ratio_of_sums_not_a_mean_of_ratios():
    codes = torch.tensor([[1.0, 1.0], [10.0, 0.0]])
    assert_close(average_coefficient_norm(codes).item(), 12 / 11)


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_all_zero_codes_warn_that_lam_is_too_large(csr, layout):
    codes = csr(torch.zeros(3, 4)) if layout == "csr" else torch.zeros(3, 4)
    metric = AverageCoefficientNorm()
    metric.update(codes=codes)
    metric.update(codes=codes.to_dense()[:0])
    with pytest.warns(UserWarning, match=r"average_coefficient_norm is NaN.*lam is too large.*lower it"):
        assert metric.compute().isnan()
    with pytest.warns(UserWarning, match="lower it"):
        assert average_coefficient_norm(codes).isnan()


def test_one_code_is_enough_not_to_warn():
    metric = AverageCoefficientNorm()
    metric.update(codes=torch.zeros(3, 4))
    metric.update(codes=torch.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute() == 1


@pytest.mark.parametrize("p", [0, -1, float("nan"), float("inf")])
def test_wrong_exponents_are_refused(p):
    with pytest.raises(ValueError, match=rf"p is {p}: give a finite exponent above 0"):
        AverageCoefficientNorm(p=p)
    with pytest.raises(ValueError, match=rf"p is {p}: give a finite exponent above 0"):
        average_coefficient_norm(torch.eye(2), p=p)
