import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from sparsecode_pl.coding import greedy_encode, lasso_encode, reconstruct
from sparsecode_pl.metrics import CodingGap
from sparsecode_pl.metrics.functional import coding_gap, lower_bound, sparse_coding_loss


def problem(seed=0, scale=1.0):
    """Rows, atoms and a penalty in float64."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 6, generator=random, dtype=torch.float64)
    return scale * x, normalize(torch.randn(24, 6, generator=random, dtype=torch.float64)), 0.3 * scale


def bounds(x, atoms, lam, tol):
    exact = lasso_encode(x, atoms, lam, tol=tol)
    return lower_bound(exact.codes, x - reconstruct(exact.codes, atoms), lam, exact.gap)


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_of_a_rough_solution_lies_just_below_the_minimum(seed):
    x, atoms, lam = problem(seed)
    exact = lasso_encode(x, atoms, lam, tol=1e-12)
    residual = x - reconstruct(exact.codes, atoms)
    minimum = residual.square().sum(1) + lam * exact.codes.to_dense().sum(1)
    for tol in (1e-1, 1e-2, 1e-4):
        share = bounds(x, atoms, lam, tol) / minimum
        assert (share <= 1 + 1e-12).all()
        assert (share >= 1 - 2 * tol).all()


@pytest.mark.parametrize("seed", range(5))
def test_exact_codes_have_no_gap_and_greedy_ones_that_of_their_objectives(seed):
    x, atoms, lam = problem(seed)
    bound = bounds(x, atoms, lam, tol=1e-10)
    losses = []
    for codes in (greedy_encode(x, atoms, lam), lasso_encode(x, atoms, lam, tol=1e-10).codes):
        residual = x - reconstruct(codes, atoms)
        losses.append(sparse_coding_loss(codes, residual, lam))
        gap = coding_gap(codes, residual, lam, bound)
        assert_close(gap, losses[-1] / bound.mean() - 1, rtol=1e-9, atol=1e-12)
    assert 0 <= gap < 1e-9
    assert losses[0] > 1.001 * losses[1]


def test_with_orthogonal_atoms_the_greedy_step_misses_nothing():
    x, lam = problem()[0], 0.3
    atoms = torch.cat([torch.eye(6), -torch.eye(6)]).double()
    codes = greedy_encode(x, atoms, lam)
    assert abs(coding_gap(codes, x - reconstruct(codes, atoms), lam, bounds(x, atoms, lam, 1e-12))) < 1e-11


@given(exponent=st.floats(-6, 6), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_scale_does_not_matter(exponent, seed):
    gaps = []
    for scale in (1.0, 10**exponent):
        x, atoms, lam = problem(seed, scale)
        codes = greedy_encode(x, atoms, lam)
        gaps.append(coding_gap(codes, x - reconstruct(codes, atoms), lam, bounds(x, atoms, lam, tol=1e-10)))
    assert_close(gaps[1], gaps[0], rtol=1e-6, atol=1e-9)


def test_dense_and_sparse_codes_have_the_same_bound(make_rows, csr):
    rows = make_rows(20)
    residual, gap = torch.tensor(rows.residual), torch.full((20,), 0.25)
    expected = ((rows.residual.astype(float) ** 2).sum(1) + 0.5 * rows.codes.astype(float).sum(1)) * 0.75
    for codes in (torch.tensor(rows.codes), csr(torch.tensor(rows.codes))):
        found = lower_bound(codes, residual, 0.5, gap)
        assert_close(found, torch.tensor(expected), rtol=1e-12, atol=0)


def test_the_gap_of_activations_that_are_all_zero_is_not_a_number():
    x = torch.zeros(3, 4)
    exact = lasso_encode(x, torch.eye(4), 0.1)
    metric = CodingGap()
    metric.update(codes=exact.codes, residual=x, lam=0.1, bound=lower_bound(exact.codes, x, 0.1, exact.gap))
    assert metric.compute().isnan()


@pytest.mark.parametrize("shape", [(19,), (20, 1), ()])
def test_a_number_for_each_row_is_asked_for(make_rows, shape):
    inputs = make_rows(20).cut(20)[0].inputs()
    codes, residual, lam = inputs["codes"], inputs["residual"], inputs["lam"]
    with pytest.raises(ValueError, match=r"bound has shape .*, but there are 20 rows of codes: give \(20,\)"):
        coding_gap(codes, residual, lam, torch.ones(shape))
    with pytest.raises(ValueError, match=r"gap has shape .*, but there are 20 rows of codes: give \(20,\)"):
        lower_bound(codes, residual, lam, torch.zeros(shape))
