"""Random signs."""

import torch
from torch import Tensor

from sparsecode_control.noise import Noise, NoiseSettings, NoiseSource


class Rademacher(Noise):
    """Random signs, scaled so that every row has norm 1: the corners of a cube.

    Example:
        >>> Rademacher(d_model=4, num_samples=100).rows.abs().unique()
        tensor([0.5000])
    """

    rules_out = "Rules out that any rows of this width and of equal norms would score like the data."

    def make(self, settings: NoiseSettings) -> NoiseSource:
        """The rows."""
        return RademacherSource(settings)


class RademacherSource(NoiseSource):
    """Rows of random signs."""

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), entries +-1/sqrt(d_model)."""
        signs = torch.randint(2, (num, self.d_model), generator=random)
        size: float = self.d_model**-0.5
        return (2 * signs - 1) * size
