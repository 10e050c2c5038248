import numpy as np
import torch

from sparsecode_pl.metrics.functional import oracle_sparsity


def test_uniform_coefficients_score_about_half_their_number(csr):
    # For a uniform coefficients the mean is 1/2 and that of the maximum a / (a + 1): (a + 1) / 2.
    rng = np.random.default_rng(0)
    codes = np.zeros((20_000, 12), dtype=np.float32)
    codes[:, :9] = rng.random((20_000, 9))
    codes = torch.tensor(rng.permuted(codes, axis=1))
    np.testing.assert_allclose(oracle_sparsity(codes), 5, rtol=0.01)
    np.testing.assert_allclose(oracle_sparsity(csr(codes)), oracle_sparsity(codes), rtol=1e-12)
