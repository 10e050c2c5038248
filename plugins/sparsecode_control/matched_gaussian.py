"""Gaussian noise with the moments of other data."""

from functools import cached_property

import torch
from torch import Tensor

from sparsecode_control.from_source import FromSource
from sparsecode_pl.data import row_blocks


class MatchedGaussian(FromSource):
    """Gaussian noise with the mean and the covariance of its source: what remains when only these are kept.

    A score that this control shares comes from the shape of the data's cloud, not from sparse features.

    Example:
        >>> from sparsecode_pl.data import TensorActivations
        >>> source = TensorActivations(torch.arange(20.0).repeat(2, 1).T)  # both dimensions are equal
        >>> rows = MatchedGaussian(source).rows
        >>> rows.shape, bool(torch.allclose(rows[:, 0], rows[:, 1], atol=1e-4))
        (torch.Size([20, 2]), True)
    """

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean, (d_model,), and a symmetric root of the covariance, (d_model, d_model), of the source, float64."""
        rows = self.needed_source.rows
        n = len(rows)
        mean = torch.stack([block.sum(0, dtype=torch.float64) for block in row_blocks(rows)]).sum(0) / n
        covariance = torch.zeros(self.d_model, self.d_model, dtype=torch.float64)
        for block in row_blocks(rows):
            centred = block.double() - mean
            covariance += centred.T @ centred / (n - 1)
        # An eigendecomposition, for a covariance of less than full rank has no Cholesky factor.
        values, vectors = torch.linalg.eigh(covariance)
        return mean, vectors * values.clamp(min=0).sqrt() @ vectors.T

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        mean, root = self.moments
        noise = torch.randn(num, self.d_model, generator=random)
        return mean.float() + noise @ root.float()
