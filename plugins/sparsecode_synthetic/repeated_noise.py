"""Noise that repeats as the tokens of a text do."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data import TOKEN, ActivationDataModule, SampledSource, Source, check_arguments, generator

# Streams of random numbers beside those of the base class.
_VECTORS, _TYPES = 10, 11


class RepeatedNoise(ActivationDataModule):
    """Isotropic Gaussian noise with one vector for each token type: no structure but repetition.

    Each row has a type, drawn by Zipf's law: the type of rank r = 1, 2, ... with a probability in proportion to
    r ** -exponent. All rows of a type are the same vector, whose entries are Gaussian with variance 1 / d_model. The
    column `token_id` holds the types. Held-out rows are therefore of types that were not trained on.

    Rows are never streamed: fresh rows would have the vectors of the rows that are scored.

    Args:
        d_model: width of the rows.
        num_types: number of types that are drawn from; rare ones may be absent.
        exponent: of Zipf's law, at least 0; 0 gives all types the same frequency.
        num_samples: rows that are trained on and scored.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> data = RepeatedNoise(d_model=8, num_types=50, num_samples=200)
        >>> types = data.source.columns["token_id"]
        >>> data.rows.shape, len(data.rows.unique(dim=0)) == len(types.unique())
        (torch.Size([200, 8]), True)
        >>> set(types[data.train_index].tolist()) & set(types[data.heldout_index].tolist())
        set()
    """

    def __init__(
        self, d_model: int = 32, num_types: int = 8000, exponent: float = 1.0, num_samples: int = 20_000, **kwargs: Any
    ) -> None:
        check_arguments(RepeatedNoise.__init__, locals())
        super().__init__(**kwargs)
        for name, value, least in (
            ("d_model", d_model, 1),
            ("num_types", num_types, 2),
            ("num_samples", num_samples, 2),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}: give at least {least}")
        if not 0 <= exponent < float("inf"):
            raise ValueError(f"exponent is {exponent}: give a finite number of at least 0")
        self._source = RepeatedNoiseSource(d_model, num_types, exponent, num_samples, self.seed)

    def sources(self) -> list[Source]:
        """The noise."""
        return [self._source]


class RepeatedNoiseSource(SampledSource):
    """The rows of `RepeatedNoise`.

    Args:
        d_model: width of the rows.
        num_types: number of types that are drawn from.
        exponent: of Zipf's law.
        num_samples: number of rows.
        seed: of all draws.
    """

    def __init__(self, d_model: int, num_types: int, exponent: float, num_samples: int, seed: int) -> None:
        super().__init__(num_samples, stream=False, seed=seed)
        self._d_model = d_model
        self.num_types = num_types
        self.exponent = exponent

    @property
    def label(self) -> str:
        """The name, and the exponent."""
        return f"RepeatedNoise, zipf {self.exponent:g}"

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return self._d_model

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The type of each row, 0 for the most frequent one, as `token_id`, (num_samples,) int64."""
        return {TOKEN: self._types(self.num_samples, generator(self.seed, _TYPES))}

    @property
    def vectors(self) -> Tensor:
        """The vector of each type, (num_types, d_model) float32."""
        noise = torch.randn(self.num_types, self.d_model, generator=generator(self.seed, _VECTORS))
        return noise / math.sqrt(self.d_model)

    def load(self) -> Tensor:
        """The rows, (num_samples, d_model)."""
        return self.draw(self.num_samples, generator(self.seed, _TYPES))

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows of the same types, (num, d_model)."""
        return self.vectors[self._types(num, random)]

    def _types(self, num: int, random: torch.Generator) -> Tensor:
        weights = torch.arange(1, self.num_types + 1, dtype=torch.float64) ** -self.exponent
        types: Tensor = torch.multinomial(weights, num, replacement=True, generator=random)
        return types
