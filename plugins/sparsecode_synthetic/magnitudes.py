"""How strong the active features are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsecode_pl.data import check_arguments

#: Mean coefficient of an active feature.
MEAN = 0.5


@dataclass(frozen=True)
class Magnitudes:
    """Coefficients of active features, all above 0 and 1/2 on average.

    Args:
        log_std: standard deviation of the logarithm of log-normal coefficients, at least 0; if None, they are uniform
            on (0, 1].

    Raises:
        ValueError: log_std is out of its range.
    """

    log_std: float | None = None

    def __post_init__(self) -> None:
        check_arguments(Magnitudes, vars(self))
        if self.log_std is not None and not 0 <= self.log_std < float("inf"):
            raise ValueError(f"log_std is {self.log_std}: give a finite number of at least 0, or None")

    @property
    def label(self) -> str:
        """What differs from uniform coefficients, in words."""
        return "" if self.log_std is None else f"log-normal {self.log_std:g}"

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Coefficients, (num,) float32."""
        if self.log_std is None:
            return 1 - torch.rand(num, generator=random)  # in (0, 1]: what is active is not zero
        return MEAN * (self.log_std * torch.randn(num, generator=random) - self.log_std**2 / 2).exp()
