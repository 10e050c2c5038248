"""The sum of a code's coefficients in units of its largest one, S_p."""

import math

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, divide_by_maxima, row_maxima, stored_values
from sparsecode_pl.utilities.arguments import check_arguments


def _check_exponent(p: float) -> None:
    check_arguments(_check_exponent, locals())
    if not (math.isfinite(p) and p > 0):
        raise ValueError(f"p is {p}: give a finite exponent above 0, such as 1; for p = 0 use nonzero_entries")


def _power_sum(values: Tensor, p: float) -> Tensor:
    # p = 1 needs no float64 copy of the codes.
    return values.sum(dtype=torch.float64) if p == 1 else values.double().pow(p).sum()


def _average_coefficient_norm_update(codes: Tensor, p: float) -> tuple[Tensor, Tensor, int]:
    """Coefficients and row maxima, both to the power p and summed, and the number of rows."""
    check_codes(codes)
    return _power_sum(stored_values(codes), p), _power_sum(row_maxima(codes), p), len(codes)


def _average_coefficient_norm_compute(powers: Tensor, maxima: Tensor, rows: int | Tensor) -> Tensor:
    return divide_by_maxima(powers, maxima, rows, "average_coefficient_norm")


def average_coefficient_norm(codes: Tensor, p: float = 1.0) -> Tensor:
    r"""S_p, the average coefficient norm (arXiv 2310.07837, section 3).

    .. math:: S_p = \frac{\sum_{ij} c_{ji}^p}{\sum_j \max_i c_{ji}^p}

    A ratio of sums over samples, not a mean of ratios. With p = 1 and equal coefficients it is the number of active
    features. Small coefficients count less, which makes it more robust to noise than N0.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        p: exponent > 0.

    Returns:
        0-dim float64 in [1, m]. NaN if there are no rows, and NaN with a warning if all codes are zero.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; p is not finite and > 0.

    Example:
        >>> import torch
        >>> average_coefficient_norm(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))  # (3 + 3) / (2 + 3)
        tensor(1.2000, dtype=torch.float64)
    """
    _check_exponent(p)
    return _average_coefficient_norm_compute(*_average_coefficient_norm_update(codes, p))
