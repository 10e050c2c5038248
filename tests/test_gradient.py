import math

import pytest
import torch

from sparsecode_pl.coding.codes import sum_weighted_rows, transposed
from sparsecode_pl.data import generator
from sparsecode_pl.gradient import _products, dictionary_gradient
from sparsecode_pl.optimizer import moments_of


@pytest.fixture
def problem():
    """Codes and residuals of some rows, whose atoms, dimensions and rows differ widely in size."""

    def problem(num_rows: int = 300, num_atoms: int = 40, width: int = 7, scale: float = 1.0):
        random = generator(0)
        codes = torch.rand(num_rows, num_atoms, generator=random)
        codes *= torch.rand(num_rows, num_atoms, generator=random) < 0.2
        codes *= torch.logspace(-3, 3, num_atoms)
        residual = torch.randn(num_rows, width, generator=random) * torch.logspace(-2, 4, width)
        residual *= torch.rand(num_rows, 1, generator=random) ** -0.5  # heavy tails
        return codes * scale, residual * scale

    return problem


def exact(codes, residual):
    """The gradient, and the largest error of an entry that rounding of the factors may cause."""
    n = len(residual)
    gradient = -2 / n * codes.double().T @ residual.double()
    step = 2.0 ** -((53 - math.ceil(math.log2(n))) // 2)
    active = (codes > 0).sum(0).double()[:, None]
    largest = codes.double().amax(0)[:, None] * residual.double().abs().amax(0)
    return gradient, 2 / n * active * largest * 2 * step


@pytest.mark.parametrize("num_rows", [1, 2, 300, 5000])
def test_it_is_the_gradient_up_to_the_rounding_of_the_factors(problem, num_rows):
    codes, residual = problem(num_rows)
    gradient, moments = dictionary_gradient(codes.to_sparse_csr(), residual)
    expected, bound = exact(codes, residual)
    assert ((gradient - expected).abs() <= bound + 1e-6 * expected.abs()).all()
    torch.testing.assert_close(moments, moments_of(codes.to_sparse_csr()), rtol=1e-5, atol=0)


def test_it_is_that_of_autograd(problem):
    codes, _ = problem(scale=1e-3)
    atoms = torch.nn.functional.normalize(torch.randn(40, 7, generator=generator(1)), dim=1).requires_grad_()
    x = torch.randn(300, 7, generator=generator(2))
    residual = x - codes @ atoms
    (residual.square().sum() / len(x)).backward()
    gradient, _ = dictionary_gradient(codes.to_sparse_csr(), residual.detach())
    torch.testing.assert_close(gradient, atoms.grad, rtol=1e-4, atol=1e-5 * float(atoms.grad.abs().max()))


def test_the_order_of_the_rows_does_not_show(problem):
    codes, residual = problem()
    expected = dictionary_gradient(codes.to_sparse_csr(), residual)
    for seed in range(5):
        order = torch.randperm(len(codes), generator=generator(seed))
        found = dictionary_gradient(codes[order].to_sparse_csr(), residual[order])
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_compiled_sums_are_those_of_pytorch(problem):
    codes, residual = problem(1000)
    whole = (codes * 2**10).round().clamp(max=2**20), (residual * 2**6).round().clamp(-(2**20), 2**20)
    csr = whole[0].to_sparse_csr()
    parts = csr.crow_indices(), csr.col_indices(), csr.values()
    start, row, weights = transposed(*parts, 40)
    expected = sum_weighted_rows(start, row, weights.double(), whole[1].double())
    assert torch.equal(_products(*parts, 40, whole[1]), expected)
    assert torch.equal(expected, whole[0].double().T @ whole[1].double())


@pytest.mark.parametrize("exponent", [-120, -60, 40])
def test_it_scales_with_its_input(problem, exponent):
    codes, residual = problem(scale=2.0**-6)
    whole, moments = dictionary_gradient(codes.to_sparse_csr(), residual)
    part = 2.0 ** (exponent // 2)
    scaled, scaled_moments = dictionary_gradient((codes * part).to_sparse_csr(), residual * part)
    torch.testing.assert_close(scaled.double(), whole.double() * part**2, rtol=1e-3, atol=1e-40)
    torch.testing.assert_close(scaled_moments[0].double(), moments[0].double() * part, rtol=1e-5, atol=0)


def test_without_codes_it_is_zero():
    gradient, moments = dictionary_gradient(torch.zeros(3, 2).to_sparse_csr(), torch.ones(3, 4))
    assert torch.equal(gradient, torch.zeros(2, 4))
    assert torch.equal(moments, torch.zeros(2, 2))


def test_double_precision_stays_double(problem):
    codes, residual = (part.double() for part in problem())
    gradient, moments = dictionary_gradient(codes.to_sparse_csr(), residual)
    expected, bound = exact(codes, residual)
    assert gradient.dtype == moments.dtype == torch.float64
    assert ((gradient - expected).abs() <= bound).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_gradient_of_the_cpu(problem):
    codes, residual = problem()
    expected = dictionary_gradient(codes.to_sparse_csr(), residual)
    found = dictionary_gradient(codes.cuda().to_sparse_csr(), residual.cuda())
    assert all(torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))
