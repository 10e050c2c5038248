"""How often each atom is used."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.atom_activity import _atom_activity_compute, _atom_activity_update
from sparsecode_pl.utilities.arguments import check_arguments


class AtomActivity(Metric):
    """Frequency of each atom: the share of samples that use it; 0 for dead atoms.

    `update` takes `codes`, coefficients >= 0, (n, num_atoms), dense or CSR, and raises ValueError for anything else.
    `compute` returns (num_atoms,) float64 in [0, 1]; NaN if there were no rows.

    Args:
        num_atoms: m, the number of atoms, >= 1.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: num_atoms is below 1.

    Example:
        >>> import torch
        >>> metric = AtomActivity(num_atoms=3)
        >>> metric.update(codes=torch.tensor([[0.0, 2.0, 1.0], [0.0, 3.0, 0.0]]))
        >>> metric.compute()
        tensor([0.0000, 1.0000, 0.5000], dtype=torch.float64)
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    counts: Tensor
    rows: Tensor

    def __init__(self, num_atoms: int, **kwargs: Any) -> None:
        check_arguments(AtomActivity.__init__, locals())
        super().__init__(**kwargs)
        if num_atoms < 1:
            raise ValueError(f"num_atoms is {num_atoms}: give at least 1")
        self.add_state("counts", torch.zeros(num_atoms, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add the rows of a batch."""
        counts, rows = _atom_activity_update(codes)
        if len(counts) != len(self.counts):
            raise ValueError(
                f"codes have {len(counts)} columns, but num_atoms is {len(self.counts)}: construct AtomActivity with "
                f"num_atoms={len(counts)}, or give the codes of that dictionary"
            )
        self.counts = self.counts + counts
        self.rows = self.rows + rows

    def compute(self) -> Tensor:
        """Frequencies over all rows so far."""
        return _atom_activity_compute(self.counts, self.rows)
