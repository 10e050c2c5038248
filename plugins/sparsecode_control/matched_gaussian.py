"""Gaussian noise with the moments of other data."""

import torch
from torch import Tensor

from sparsecode_control.of_rows import OfRows, OfRowsSource
from sparsecode_pl.data import Source, row_blocks

_BLOCK = 16384


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

    rules_out = "Rules out that mean and covariance explain the score, such as a few directions of large variance."

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
            self._moments = gaussian_moments(self.source, self.kinds)
        return self._moments

    @property
    def kinds(self) -> Tensor | None:
        """Kinds of rows that weigh the same in the moments, (n,) int64; None if each row does."""
        return None

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        mean, root = self.moments
        noise = torch.randn(num, self.d_model, generator=random)
        return mean.float() + noise @ root.float()

    def release(self) -> None:
        """Free the rows and the moments."""
        super().release()
        self._moments = None


def gaussian_moments(source: Source, kinds: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean, (d_model,), and a symmetric root of the covariance, (d_model, d_model), of the rows of a source, float64.

    Args:
        source: the rows.
        kinds: number of the kind of each row, (n,) int64. Each kind then weighs the same, however many rows it has.
            If None, each row does.
    """
    rows, n = source.rows, len(source.rows)
    if kinds is None:
        number, weights = n, torch.full((n,), 1 / n, dtype=torch.float64)
    else:
        number = int(kinds.max()) + 1
        weights = 1 / (number * kinds.bincount().double()[kinds])
    mean = torch.zeros(source.d_model, dtype=torch.float64)
    for block, weight in zip(row_blocks(rows, size=_BLOCK), weights.split(_BLOCK), strict=True):
        mean += weight @ block.double()
    covariance = torch.zeros(source.d_model, source.d_model, dtype=torch.float64)
    for block, weight in zip(row_blocks(rows, size=_BLOCK), weights.split(_BLOCK), strict=True):
        centred = block.double() - mean
        covariance += centred.T @ (weight[:, None] * centred)
    # An eigendecomposition, because a covariance of less than full rank has no Cholesky factor.
    values, vectors = torch.linalg.eigh(covariance * number / (number - 1))
    return mean, vectors * values.clamp(min=0).sqrt() @ vectors.T
