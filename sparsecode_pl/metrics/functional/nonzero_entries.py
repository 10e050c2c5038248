"""Number of non-zero coefficients, N0."""

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, stored_values


def _nonzero_entries_update(codes: Tensor) -> tuple[Tensor, int]:
    """Number of non-zero coefficients, and number of rows."""
    check_codes(codes)
    return torch.count_nonzero(stored_values(codes)), len(codes)


def _nonzero_entries_compute(nonzeros: Tensor, rows: int | Tensor) -> Tensor:
    return nonzeros.double() / rows


def nonzero_entries(codes: Tensor) -> Tensor:
    """N0, the mean number of non-zero coefficients per sample (arXiv 2310.07837, section 3).

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR. A zero stored in a CSR tensor counts as zero.

    Returns:
        0-dim float64 in [0, m]; 0 if all codes are zero, NaN if there are no rows.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> import torch
        >>> nonzero_entries(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))
        tensor(1.5000, dtype=torch.float64)
    """
    return _nonzero_entries_compute(*_nonzero_entries_update(codes))
