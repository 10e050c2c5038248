"""Isotropic noise with a heavy tail."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_control.noise import Noise, NoiseSettings, NoiseSource, UnitNormSource
from sparsecode_pl.data import check_arguments


class HeavyTailed(Noise):
    """Isotropic noise whose norms follow a Cauchy distribution, scaled to an average norm of 1.

    Without `clip_norm`, single giant rows become atoms, and the scores of the training rows describe only these rows.

    Args:
        clip_norm: norms above this multiple of the median norm are cut down to it; None cuts none.
        kwargs: the arguments of `Gaussian`.

    Raises:
        ValueError: `clip_norm` is not positive.

    Example:
        >>> data = HeavyTailed(d_model=16, num_samples=1000, clip_norm=5)
        >>> norms = data.rows.norm(dim=1)
        >>> data.label, round(float(norms.mean()), 4), bool(norms.max() < 6 * norms.median())
        ('HeavyTailed, norms <= 5 x median', 1.0, True)
    """

    rules_out = "Rules out that a few rows of very large norm explain the score."

    def __init__(self, clip_norm: float | None = None, **kwargs: Any) -> None:
        check_arguments(HeavyTailed.__init__, locals())
        super().__init__(**kwargs)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm}: give a multiple of the median norm above 0, or leave it out")
        self.clip_norm = clip_norm

    @property
    def label(self) -> str:
        """The name of the class, and the clipping if there is any."""
        name = super().label
        return name if self.clip_norm is None else f"{name}, norms <= {self.clip_norm:g} x median"

    def make(self, settings: NoiseSettings) -> NoiseSource:
        """The rows."""
        return HeavyTailedSource(settings, self.clip_norm)


class HeavyTailedSource(UnitNormSource):
    """Rows of isotropic noise with Cauchy norms.

    Args:
        settings: what all noise depends on.
        clip_norm: norms above this multiple of the median norm are cut down to it; None cuts none.
    """

    def __init__(self, settings: NoiseSettings, clip_norm: float | None) -> None:
        super().__init__(settings)
        self._clip_norm = clip_norm

    def draw_raw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows before scaling, (num, d_model); the median of the distribution of their norms is 1."""
        norms = torch.empty(num, 1, dtype=torch.float64).cauchy_(generator=random).abs_()
        if self._clip_norm is not None:
            norms.clamp_(max=self._clip_norm)
        return normalize(torch.randn(num, self.d_model, generator=random)) * norms.float()
