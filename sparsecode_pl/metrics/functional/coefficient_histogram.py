"""How large the coefficients are, in units of the penalty."""

import math

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, check_penalty, stored_values
from sparsecode_pl.utilities.arguments import check_arguments


def _check_bins(num_bins: int, low: float, high: float) -> None:
    check_arguments(_check_bins, locals())
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}: give at least 1")
    if not (0 < low < high and math.isfinite(high)):
        raise ValueError(f"low is {low} and high is {high}: give finite 0 < low < high, in units of lam")


def _coefficient_histogram_edges(num_bins: int, low: float, high: float, device: torch.device | None = None) -> Tensor:
    """Edges of the bins, (num_bins + 1,) float64, evenly spaced on a logarithmic axis."""
    return torch.logspace(math.log10(low), math.log10(high), num_bins + 1, dtype=torch.float64, device=device)


def _coefficient_histogram_update(codes: Tensor, lam: float | Tensor, num_bins: int, low: float, high: float) -> Tensor:
    check_codes(codes)
    check_penalty(lam)
    values = stored_values(codes)
    values = values[values != 0].double() / lam
    # The outer edges are left out, so that the end bins include all values beyond them.
    inner_edges = _coefficient_histogram_edges(num_bins, low, high, values.device)[1:-1]
    return torch.bincount(torch.bucketize(values, inner_edges, right=True), minlength=num_bins)


def coefficient_histogram(
    codes: Tensor, lam: float | Tensor, num_bins: int = 60, low: float = 1e-3, high: float = 1e3
) -> Tensor:
    """Histogram of the non-zero coefficients divided by lam.

    Bin k holds `edges[k] <= c / lam < edges[k + 1]`, where `edges = numpy.geomspace(low, high, num_bins + 1)`; values
    beyond the edges count in the end bins.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR. A zero stored in a CSR tensor is left out.
        lam: penalty > 0, in the units of the codes.
        num_bins: bins, >= 1.
        low: lower edge of the first bin, > 0, in units of lam.
        high: upper edge of the last bin, > low, in units of lam.

    Returns:
        Counts, (num_bins,) int64.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; lam is not finite and > 0; the bins are out of range.

    Example:
        >>> import torch
        >>> codes = torch.tensor([[0.0, 2.0, 0.5], [30.0, 0.0, 0.0]])
        >>> coefficient_histogram(codes, lam=0.1, num_bins=3, low=1, high=1e3)
        tensor([1, 1, 1])
    """
    _check_bins(num_bins, low, high)
    return _coefficient_histogram_update(codes, lam, num_bins, low, high)
