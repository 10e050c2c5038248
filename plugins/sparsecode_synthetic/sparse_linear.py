"""Sparse linear combinations of random features."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.coding import csr_codes, reconstruct
from sparsecode_pl.data import GroundTruth, SampledActivations, SampledSource, Source, generator

# Streams of random numbers beside those of the base class.
_FEATURES, _CODES, _NOISE = 10, 11, 12
_DENSE_ENTRIES = 2**24


class SparseLinear(SampledActivations):
    """Sparse sums of random features plus noise: the true features and their sparsity are known.

    Appendix D of "Measuring Feature Sparsity in Language Models" (arXiv 2310.07837). The features are uniform on the
    unit sphere. In each row, each of them is active, independently, with probability `active / num_features`, and its
    coefficient is then uniform on [0, 1]. The sums are centred (the scored rows by their mean, streamed ones by its
    expectation), and Gaussian noise of variance `active * noise**2 / d_model` per dimension is added. The features
    depend on `seed`, `num_features` and `d_model` alone.

    Args:
        d_model: width of the activations.
        num_features: number of true features; 4 * d_model if not given.
        active: mean number of active features a row, the paper's a, in (0, num_features].
        noise: standard deviation of the noise, relative to sqrt(active / d_model), at least 0.
        num_samples: rows that are trained on and scored; with `stream` only scored.
        stream: draw fresh rows for every training batch.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> data = SparseLinear(d_model=16, active=3, num_samples=100)
        >>> data.rows.shape, data.source.ground_truth.codes.shape, data.source.ground_truth.half_active
        (torch.Size([100, 16]), torch.Size([100, 64]), 1.5)
    """

    def __init__(
        self,
        d_model: int = 256,
        num_features: int | None = None,
        active: float = 5.0,
        noise: float = 0.1,
        num_samples: int = 16384,
        stream: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples=num_samples, stream=stream, **kwargs)
        if d_model < 1:
            raise ValueError(f"d_model is {d_model}: give at least 1")
        if num_features is None:
            num_features = 4 * d_model
        if num_features < 1:
            raise ValueError(f"num_features is {num_features}: give at least 1")
        if not 0 < active <= num_features:
            raise ValueError(f"active is {active}: give a number above 0 and at most num_features, {num_features}")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is {noise}: give a finite number of at least 0")
        self.num_features = num_features
        self.active = active
        self._source = SparseLinearSource(d_model, num_features, active, noise, num_samples, stream, self.seed)

    def sources(self) -> list[Source]:
        """The sums."""
        return [self._source]


class SparseLinearSource(SampledSource):
    """The rows of `SparseLinear`, which explains the arguments."""

    _features: Tensor | None = None
    _codes: Tensor | None = None

    def __init__(
        self,
        d_model: int,
        num_features: int,
        active: float,
        noise: float,
        num_samples: int,
        stream: bool,
        seed: int,
    ) -> None:
        super().__init__(num_samples, stream, seed)
        self._d_model = d_model
        self.num_features = num_features
        self.active = active
        self.noise = noise

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return self._d_model

    @property
    def label(self) -> str:
        """The name and the mean number of active features."""
        return f"SparseLinear a={self.active:g}"

    @property
    def features(self) -> Tensor:
        """The true features, unit rows, (num_features, d_model) float32."""
        if self._features is None:
            random = generator(self.seed, _FEATURES)
            self._features = normalize(torch.randn(self.num_features, self.d_model, generator=random))
        return self._features

    @property
    def ground_truth(self) -> GroundTruth:
        """The true features, the true codes of `rows` and a/2."""
        return GroundTruth(features=self.features, codes=self.codes, half_active=self.active / 2)

    @property
    def codes(self) -> Tensor:
        """The true codes of `rows`, (num_samples, num_features) sparse CSR."""
        if self._codes is None:
            self._codes = self._draw_codes(self.num_samples, generator(self.seed, _CODES))
        return self._codes

    def release(self) -> None:
        """Free the rows and the codes."""
        super().release()
        self._codes = None

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model), their sums centred by their mean."""
        sums = reconstruct(self.codes, self.features)
        mean = sums.mean(0, dtype=torch.float64).float()
        return sums.sub_(mean).add_(self._draw_noise(self.num_samples, generator(self.seed, _NOISE)))

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model), their sums centred by the expectation."""
        sums = reconstruct(self._draw_codes(num, random), self.features)
        mean = self.active / (2 * self.num_features) * self.features.sum(0)
        return sums.sub_(mean).add_(self._draw_noise(num, random))

    def _draw_codes(self, num: int, random: torch.Generator) -> Tensor:
        """Codes, (num, num_features) sparse CSR, drawn so many rows at a time that no mask is large."""
        chunk = max(1, _DENSE_ENTRIES // self.num_features)
        counts, columns = [], []
        for start in range(0, num, chunk):
            mask = torch.rand(min(chunk, num - start), self.num_features, generator=random)
            chosen = mask < self.active / self.num_features
            counts.append(chosen.sum(1))
            columns.append(chosen.nonzero()[:, 1])
        crow = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(counts).cumsum(0)])
        column = torch.cat(columns)
        values = 1 - torch.rand(len(column), generator=random)  # in (0, 1]: what is active is not zero
        return csr_codes(crow, column, values, self.num_features)

    def _draw_noise(self, num: int, random: torch.Generator) -> Tensor:
        scale: float = self.noise * (self.active / self.d_model) ** 0.5
        return scale * torch.randn(num, self.d_model, generator=random)
