"""The data and atoms that the benchmarks of the coefficient step share."""

import torch
from sparsecode_synthetic import SparseLinear
from torch import Tensor


def problem(active: float, n: int = 4096, d: int = 256, m: int = 2048) -> tuple[Tensor, Tensor]:
    """Synthetic samples as in the paper, and a dictionary that is half right.

    Args:
        active: mean number of active features per sample.
        n: number of samples.
        d: number of dimensions.
        m: number of atoms, even.

    Returns:
        Samples (n, d), and atoms (m, d): the m / 2 true features and as many random directions.
    """
    data = SparseLinear(d_model=d, num_features=m // 2, active=active, num_samples=n, val_split=0)
    others = torch.randn(m - m // 2, d, generator=torch.Generator().manual_seed(0))
    return data.load(), torch.cat([data.source.ground_truth.features, torch.nn.functional.normalize(others, dim=1)])
