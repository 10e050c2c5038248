"""Sums over documents of what a model's output costs, from which losses and their intervals come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from sparsecode_pl.utilities.bootstrap import Array, resample

#: What is added up of each output, by the kind of model.
COLUMNS = {"causal": ("cross_entropy", "kl"), "encoder": ("cosine",)}


@dataclass(frozen=True)
class LossSums:
    """Sums over the judged positions of each document, or bucket of documents.

    Attributes:
        kind: "causal" or "encoder".
        tokens: number of these positions, (buckets,) float64.
        arms: the sums of each arm, (buckets, C) float64: cross-entropy and KL of a causal model, cosine of an encoder.
    """

    kind: Literal["causal", "encoder"]
    tokens: Array
    arms: dict[str, Array]

    @property
    def total(self) -> "LossSums":
        """The sums over all buckets, as one bucket."""
        return LossSums(
            self.kind, self.tokens.sum(keepdims=True), {name: each.sum(0)[None] for name, each in self.arms.items()}
        )

    def resampled(self, seed: int = 0) -> "LossSums":
        """Sums of replicates, each over buckets drawn with replacement, the same buckets for all arms."""
        return self.unstack(resample(self.stack(list(self.arms)), seed=seed), list(self.arms))

    def stack(self, names: Sequence[str]) -> Array:
        """The tokens, and the sums of some arms side by side, (buckets, 1 + C arms)."""
        return np.concatenate([self.tokens[:, None], *(self.arms[name] for name in names)], axis=1)

    @classmethod
    def unstack(cls, stacked: Array, names: Sequence[str]) -> Self:
        """The sums from what `stack` gave for arms of these names."""
        width = (stacked.shape[1] - 1) // len(names)
        kind: Literal["causal", "encoder"] = "causal" if width == len(COLUMNS["causal"]) else "encoder"
        arms = {name: stacked[:, 1 + width * i : 1 + width * (i + 1)] for i, name in enumerate(names)}
        return cls(kind, stacked[:, 0], arms)

    def means(self) -> dict[str, dict[str, Array]]:
        """Of each arm, the mean over positions of what is added up, by name, for each bucket, (buckets,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                arm: {name: each[:, i] / self.tokens for i, name in enumerate(COLUMNS[self.kind])}
                for arm, each in self.arms.items()
            }


def losses(means: Mapping[str, Array]) -> Array:
    """The loss of an arm: cross-entropy, or 1 minus the cosine."""
    return means["cross_entropy"] if "cross_entropy" in means else 1 - means["cosine"]
