"""How well the learnt atoms match the true ones."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl.metrics.functional.atom_recovery import (
    _atom_recovery_compute,
    _atom_recovery_update,
    _check_recovery,
)


class AtomRecovery(Metric):
    """How well a planted dictionary was found: the best match of each true atom among the learnt atoms.

    `update` takes `atoms`, (m, d), in place of those of the last update, and raises ValueError for anything else.
    `compute` returns a dict of 0-dim float64: `mean_max_cosine` in [-1, 1], the mean over the true atoms of the largest
    cosine similarity with a learnt atom, and `fraction_above` in [0, 1], the share of true atoms for which this cosine
    is above the threshold; NaN before the first update.

    Args:
        true_atoms: planted features, (f, d); rows of any length but 0.
        threshold: cosine similarity in [-1, 1] above which a feature counts as found.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: a true atom has no direction, or the threshold is out of its range.

    Example:
        >>> import torch
        >>> metric = AtomRecovery(true_atoms=torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        >>> metric.update(atoms=torch.tensor([[1.0, 0.0], [0.8, 0.6]]))
        >>> metric.compute()["mean_max_cosine"]  # (1 + 0.6) / 2
        tensor(0.8000, dtype=torch.float64)
    """

    is_differentiable: bool = True
    higher_is_better: bool = True
    # The result depends on the latest atoms only, so `forward` must not merge it with earlier states.
    full_state_update: bool = True

    mean_max_cosine: Tensor
    fraction_above: Tensor

    def __init__(self, true_atoms: Tensor, threshold: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_recovery(true_atoms, threshold)
        # Not a buffer, because `module.half()` would round it.
        self.true_atoms = true_atoms.detach()
        self.threshold = threshold
        # All processes hold the same atoms, so the mean over processes equals the value of each.
        self.add_state("mean_max_cosine", torch.tensor(math.nan, dtype=torch.float64), dist_reduce_fx="mean")
        self.add_state("fraction_above", torch.tensor(math.nan, dtype=torch.float64), dist_reduce_fx="mean")

    def update(self, atoms: Tensor) -> None:
        """Replace the atoms."""
        cosines = _atom_recovery_update(self.true_atoms.to(atoms.device), atoms)
        self.mean_max_cosine, self.fraction_above = _atom_recovery_compute(cosines, self.threshold)

    def compute(self) -> dict[str, Tensor]:
        """How well the latest atoms match the true ones."""
        return {"mean_max_cosine": self.mean_max_cosine, "fraction_above": self.fraction_above}
