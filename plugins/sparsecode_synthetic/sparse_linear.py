"""Sparse linear combinations of random features."""

from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.coding import csr_codes, reconstruct
from sparsecode_pl.data import GroundTruth, SampledActivations, SampledSource, Source, check_arguments, generator
from sparsecode_synthetic.features import Features
from sparsecode_synthetic.magnitudes import MEAN, Magnitudes
from sparsecode_synthetic.supports import Supports

# Streams of random numbers beside those of the base class.
_FEATURES, _CODES, _NOISE = 10, 11, 12


class SparseLinear(SampledActivations):
    """Sparse sums of random features plus noise: the true features and their sparsity are known.

    By default as in appendix D of "Measuring Feature Sparsity in Language Models" (arXiv 2310.07837): the features are
    uniform on the unit sphere; in each row, each of them is active, independently, with probability
    `active / num_features`, and its coefficient is then uniform on (0, 1]. The sums are centred (the scored rows by
    their mean, streamed ones by its expectation, which is known exactly), and Gaussian noise of variance
    `active * noise**2 / d_model` per dimension is added.

    Real features are hardly so simple. They can have frequencies that differ (`zipf`), strengths with a long tail
    (`log_std`), directions that are alike (`cluster_size`, `cluster_cosine`), partners that they fire with
    (`group_size`, `group_lift`), and parents without which they never do (`tree_depth`, `tree_branching`,
    `child_probability`). All of these go together; groups are then groups of trees. Whatever they are, `active`
    features are active on average and coefficients are 1/2 on average. The features depend on `seed`, `num_features`,
    `d_model` and the clusters alone.

    Args:
        d_model: width of the activations.
        num_features: number of true features; 4 * d_model if not given.
        active: mean number of active features a row, the paper's a, in (0, num_features].
        noise: standard deviation of the noise, relative to sqrt(active / d_model), at least 0.
        num_samples: rows that are trained on and scored; with `stream` only scored.
        stream: draw fresh rows for every training batch.
        zipf: exponent of Zipf's law: the feature (or tree) of rank r is active in proportion to r ** -zipf.
        log_std: standard deviation of the logarithm of log-normal coefficients; if None, they are uniform.
        group_size: features of a group, which are active together more often than by chance; 1 for none.
        group_lift: how many times as often as by chance two of a group are active together, at least 1.
        tree_depth: levels of the trees in which a child is active only with its parent; 1 for none.
        tree_branching: children of each feature above the last level.
        child_probability: probability that a child is active given that its parent is, in (0, 1].
        cluster_size: features of a cluster of directions that are alike; 1 for none.
        cluster_cosine: cosine of two features of one cluster, in [0, 1).
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> data = SparseLinear(d_model=16, active=3, num_samples=100)
        >>> data.rows.shape, data.source.ground_truth.codes.shape, data.source.ground_truth.half_active
        (torch.Size([100, 16]), torch.Size([100, 64]), 1.5)
        >>> SparseLinear(d_model=16, active=3, zipf=1, tree_depth=3).label
        'SparseLinear a=3, zipf 1, trees 4^2 at 0.4'
    """

    def __init__(
        self,
        d_model: int = 256,
        num_features: int | None = None,
        active: float = 5.0,
        noise: float = 0.1,
        num_samples: int = 16384,
        stream: bool = False,
        zipf: float = 0.0,
        log_std: float | None = None,
        group_size: int = 1,
        group_lift: float = 1.0,
        tree_depth: int = 1,
        tree_branching: int = 4,
        child_probability: float = 0.4,
        cluster_size: int = 1,
        cluster_cosine: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(SparseLinear.__init__, locals())
        super().__init__(num_samples=num_samples, stream=stream, **kwargs)
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is {noise}: give a finite number of at least 0")
        num_features = 4 * d_model if num_features is None else num_features
        features = Features(num_features, d_model, cluster_size, cluster_cosine)
        supports = Supports(
            num_features, active, zipf, group_size, group_lift, tree_depth, tree_branching, child_probability
        )
        self._source = SparseLinearSource(
            features, supports, Magnitudes(log_std), noise, num_samples, stream, self.seed
        )
        self.num_features = num_features
        self.active = active

    def sources(self) -> list[Source]:
        """The sums."""
        return [self._source]


class SparseLinearSource(SampledSource):
    """The rows of `SparseLinear`.

    Args:
        features: the directions.
        supports: which of them are active.
        magnitudes: how strongly.
        noise: standard deviation of the noise, relative to sqrt(active / d_model).
        num_samples: rows that are scored.
        stream: whether to train on fresh rows.
        seed: of all draws.
    """

    _features: Tensor | None = None
    _codes: Tensor | None = None

    def __init__(
        self,
        features: Features,
        supports: Supports,
        magnitudes: Magnitudes,
        noise: float,
        num_samples: int,
        stream: bool,
        seed: int,
    ) -> None:
        super().__init__(num_samples, stream, seed)
        self._directions, self._supports, self._magnitudes = features, supports, magnitudes
        self._d_model = features.d_model
        self.num_features = features.num_features
        self.active = supports.active
        self.noise = noise

    @property
    def d_model(self) -> int:
        """Width of the activations."""
        return self._d_model

    @property
    def label(self) -> str:
        """The name, the mean number of active features, and what differs from independent features that are alike."""
        return ", ".join([f"SparseLinear a={self.active:g}", *(part for part in self._differences if part)])

    @property
    def _differences(self) -> tuple[str, ...]:
        """What differs from the paper's features, in words, empty where nothing does."""
        return self._supports.label, self._magnitudes.label, self._directions.label

    @property
    def features(self) -> Tensor:
        """The true features, unit rows, (num_features, d_model) float32."""
        if self._features is None:
            self._features = self._directions.draw(generator(self.seed, _FEATURES))
        return self._features

    @property
    def ground_truth(self) -> GroundTruth:
        """The true features, the true codes of `rows` and, if all is as in the paper, a/2."""
        differs = any(self._differences)
        return GroundTruth(self.features, self.codes, half_active=None if differs else self.active / 2)

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
        frequency = self._supports.probabilities / (self.active / self.num_features)  # relative to the mean
        mean = MEAN * self.active / self.num_features * (frequency.float().unsqueeze(1) * self.features).sum(0)
        return sums.sub_(mean).add_(self._draw_noise(num, random))

    def _draw_codes(self, num: int, random: torch.Generator) -> Tensor:
        """Codes, (num, num_features) sparse CSR."""
        counts, columns = self._supports.draw(num, random)
        crow = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return csr_codes(crow, columns, self._magnitudes.draw(len(columns), random), self.num_features)

    def _draw_noise(self, num: int, random: torch.Generator) -> Tensor:
        scale: float = self.noise * (self.active / self.d_model) ** 0.5
        return scale * torch.randn(num, self.d_model, generator=random)
