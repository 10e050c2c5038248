"""Controls of average norm 1."""

from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from sparsecode_pl.data import ControlActivations

_RAW = 20


class UnitNorm(ControlActivations):
    """Random rows times the one constant that gives those that are scored an average L2 norm of 1.

    A subclass implements `draw_raw`. Streamed rows are multiplied by the same constant as the scored ones.
    """

    @abstractmethod
    def draw_raw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows before scaling, (num, d_model)."""

    @cached_property
    def scale(self) -> float:
        """The constant."""
        return 1 / float(self._raw_rows().norm(dim=1).mean(dtype=torch.float64))

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model), of average L2 norm 1."""
        return self._raw_rows() * self.scale

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        return self.draw_raw(num, random) * self.scale

    def _raw_rows(self) -> Tensor:
        return self.draw_raw(self.num_samples, self.random(_RAW))
