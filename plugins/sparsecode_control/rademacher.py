"""Random signs."""

import torch
from torch import Tensor

from sparsecode_pl.data import ControlActivations


class Rademacher(ControlActivations):
    """Random signs, scaled so that every row has norm 1: the corners of a cube.

    Example:
        >>> Rademacher(d_model=4, num_samples=100).rows.abs().unique()
        tensor([0.5000])
    """

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), entries +-1/sqrt(d_model)."""
        signs = torch.randint(2, (num, self.d_model), generator=random)
        return (2 * signs - 1) * self.d_model**-0.5
