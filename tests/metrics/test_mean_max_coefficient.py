import torch

from sparsecode_pl.metrics.functional import mean_max_coefficient


def test_a_row_without_coefficients_counts_as_zero(csr):
    codes = torch.tensor([[0.0, 0.0], [1.0, 5.0], [0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    assert mean_max_coefficient(codes).item() == mean_max_coefficient(csr(codes)).item() == 8 / 5


def test_all_zero_codes(csr):
    assert mean_max_coefficient(torch.zeros(3, 4)) == mean_max_coefficient(csr(torch.zeros(3, 4))) == 0
