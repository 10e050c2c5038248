"""How often each atom is used."""

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes


def _atom_activity_update(codes: Tensor) -> tuple[Tensor, int]:
    """Number of rows that use each atom, (m,) int64, and the number of rows."""
    check_codes(codes)
    if codes.layout != torch.sparse_csr:
        return torch.count_nonzero(codes, dim=0), len(codes)
    counts = torch.zeros(codes.shape[1], dtype=torch.int64, device=codes.device)
    return counts.index_add(0, codes.col_indices(), (codes.values() != 0).long()), len(codes)


def _atom_activity_compute(counts: Tensor, rows: int | Tensor) -> Tensor:
    return counts.double() / rows


def atom_activity(codes: Tensor) -> Tensor:
    """Frequency of each atom: the share of samples that use it; 0 for dead atoms.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR. A zero stored in a CSR tensor does not count.

    Returns:
        (m,) float64 in [0, 1]; NaN if there are no rows.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> import torch
        >>> atom_activity(torch.tensor([[0.0, 2.0, 1.0], [0.0, 3.0, 0.0]]))
        tensor([0.0000, 1.0000, 0.5000], dtype=torch.float64)
    """
    return _atom_activity_compute(*_atom_activity_update(codes))
