import torch
from torch.testing import assert_close

from sparsecode_pl.metrics.functional import sparse_coding_loss


def test_all_zero_codes_cost_the_mean_squared_norm():
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert_close(sparse_coding_loss(torch.zeros(2, 7), residual=x, lam=0.3).item(), 13.0)


def test_a_greedy_step_saves_the_square_of_its_coefficient():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    atoms = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64))
    lam = 0.1
    coefficients, chosen = (x @ atoms.T - lam / 2).max(dim=1)
    codes = torch.zeros(6, 5, dtype=torch.float64).scatter(1, chosen[:, None], coefficients.clamp_min(0)[:, None])
    loss = sparse_coding_loss(codes, x - codes @ atoms, lam)
    assert_close(loss, (x.square().sum() - codes.square().sum()) / 6)


def test_its_gradient_is_that_of_the_squared_error():
    residual = torch.tensor([[1.0, 2.0], [0.0, 3.0]], requires_grad=True)
    sparse_coding_loss(torch.zeros(2, 3), residual, lam=1.0).backward()
    assert_close(residual.grad, residual.detach())  # 2 r / n, with n = 2
