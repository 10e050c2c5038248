"""Mean of the largest coefficients."""

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, row_maxima


def _mean_max_coefficient_update(codes: Tensor) -> tuple[Tensor, int]:
    """Sum of the row maxima, and the number of rows."""
    check_codes(codes)
    return row_maxima(codes).sum(dtype=torch.float64), len(codes)


def _mean_max_coefficient_compute(maxima: Tensor, rows: int | Tensor) -> Tensor:
    return maxima / rows


def mean_max_coefficient(codes: Tensor) -> Tensor:
    """Mean of the samples' largest coefficients; the adaptive penalty is a tenth of it (arXiv 2310.07837, section 3).

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR. An all-zero row counts as 0.

    Returns:
        0-dim float64 >= 0, in the units of the codes; NaN if there are no rows.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> import torch
        >>> mean_max_coefficient(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        tensor(1.5000, dtype=torch.float64)
    """
    return _mean_max_coefficient_compute(*_mean_max_coefficient_update(codes))
