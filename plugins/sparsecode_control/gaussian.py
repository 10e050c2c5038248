"""Isotropic Gaussian noise."""

import torch
from torch import Tensor

from sparsecode_control.noise import Noise, NoiseSettings, NoiseSource, UnitNormSource


class Gaussian(Noise):
    """Isotropic Gaussian noise of mean 0 and average norm 1: data without any structure.

    Example:
        >>> data = Gaussian(d_model=16, num_samples=100)
        >>> data.rows.shape, round(float(data.rows.norm(dim=1).mean()), 4)
        (torch.Size([100, 16]), 1.0)
    """

    rules_out = "Rules out that any rows of this width would score like the data."

    def make(self, settings: NoiseSettings) -> NoiseSource:
        """The rows."""
        return GaussianSource(settings)


class GaussianSource(UnitNormSource):
    """Rows of isotropic Gaussian noise."""

    def draw_raw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows before scaling, (num, d_model)."""
        return torch.randn(num, self.d_model, generator=random)
