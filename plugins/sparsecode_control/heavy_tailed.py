"""Isotropic noise with a heavy tail."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_control.unit_norm import UnitNorm
from sparsecode_pl.data import ActivationDataModule


class HeavyTailed(UnitNorm):
    """Isotropic noise whose norms follow a Cauchy distribution, scaled to an average norm of 1.

    Single giant rows become atoms, and the scores of the rows trained on then tell of these rows alone: give
    `clip_norm` to keep them from it.

    Args:
        source: the data that this is a control of.
        clip_norm: norms above this multiple of the median norm are cut down to it; None cuts none.
        kwargs: the arguments of `ControlActivations`.

    Raises:
        ValueError: `clip_norm` is not positive.

    Example:
        >>> data = HeavyTailed(d_model=16, num_samples=1000, clip_norm=5)
        >>> norms = data.rows.norm(dim=1)
        >>> data.label, round(float(norms.mean()), 4), bool(norms.max() < 6 * norms.median())
        ('HeavyTailed, norms <= 5 x median', 1.0, True)
    """

    def __init__(
        self, source: ActivationDataModule | None = None, clip_norm: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(source=source, **kwargs)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm}: give a multiple of the median norm above 0, or leave it out")
        self.clip_norm = clip_norm

    @property
    def label(self) -> str:
        """The name, and the clipping if any."""
        name = super().label
        return name if self.clip_norm is None else f"{name}, norms <= {self.clip_norm:g} x median"

    def draw_raw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows before scaling, (num, d_model); the median of their norms' distribution is 1."""
        norms = torch.empty(num, 1, dtype=torch.float64).cauchy_(generator=random).abs_()
        if self.clip_norm is not None:
            norms.clamp_(max=self.clip_norm)
        return normalize(torch.randn(num, self.d_model, generator=random)) * norms.float()
