"""Gaussian noise with the moments of other data."""

import torch
from torch import Tensor

from sparsecode_control.of_rows import OfRows, OfRowsSource
from sparsecode_pl.data import Source, row_blocks


class MatchedGaussian(OfRows):
    """Gaussian noise with the mean and the covariance of the measured data, and nothing else of it.

    If the data scores like this control, its score comes from the shape of the cloud, not from sparse features. Its
    rows do not repeat; those of `RepeatedGaussian` do.

    Example:
        >>> from sparsecode_pl.data import TensorSource
        >>> source = TensorSource(torch.arange(20.0).repeat(2, 1).T)  # both dimensions are equal
        >>> rows = MatchedGaussian().of(source).rows
        >>> rows.shape, bool(torch.allclose(rows[:, 0], rows[:, 1], atol=1e-4))
        (torch.Size([20, 2]), True)
    """

    rules_out = "Rules out that the mean and the covariance make the score, such as a few directions of large variance."

    def make(self, source: Source, num_samples: int, stream: bool) -> Source:
        """The noise."""
        return MatchedGaussianSource(source, self.label, num_samples, stream, self.seed)


class MatchedGaussianSource(OfRowsSource):
    """Rows of Gaussian noise with the moments of a source."""

    _moments: tuple[Tensor, Tensor] | None = None

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean, (d_model,), and a symmetric root of the covariance, (d_model, d_model), of the source, float64."""
        if self._moments is None:
            self._moments = _moments(self.source)
        return self._moments

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        mean, root = self.moments
        noise = torch.randn(num, self.d_model, generator=random)
        return mean.float() + noise @ root.float()

    def release(self) -> None:
        """Free the rows and the moments."""
        super().release()
        self._moments = None


def _moments(source: Source) -> tuple[Tensor, Tensor]:
    rows = source.rows
    n, d_model = len(rows), source.d_model
    mean = torch.stack([block.sum(0, dtype=torch.float64) for block in row_blocks(rows)]).sum(0) / n
    covariance = torch.zeros(d_model, d_model, dtype=torch.float64)
    for block in row_blocks(rows):
        centred = block.double() - mean
        covariance += centred.T @ centred / (n - 1)
    # An eigendecomposition, because a covariance of less than full rank has no Cholesky factor.
    values, vectors = torch.linalg.eigh(covariance)
    return mean, vectors * values.clamp(min=0).sqrt() @ vectors.T
