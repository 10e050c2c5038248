"""Intervals of scores: the bootstrap over buckets of rows, with the dictionary fixed.

A pass over the rows leaves the sums that the scores are ratios of, for each bucket of rows (see `ScoreSums`). Rows that
belong together, such as those of a document, are in one bucket. A replicate draws as many buckets as there are, with
replacement, and has the scores of the rows in them. Which buckets are drawn depends on their number alone, so what was
coded differently, or by another dictionary, can be compared replicate by replicate over the same rows.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from torch import Tensor

from sparsecode_pl.data import score_name
from sparsecode_pl.metrics.functional import SUM_COLUMNS, scores_of_sums

#: Replicates that an interval is taken from.
REPLICATES = 1000
#: How often an interval is meant to cover the value that it is of.
LEVEL = 0.95

Array = NDArray[np.float64]
#: Lower and upper end.
Interval = tuple[float, float]

_ROWS, _OBJECTIVE, _BOUNDS = (SUM_COLUMNS.index(name) for name in ("rows", "objective", "bounds"))
# Names of sums, behind the prefix that the scores have, such as "heldout_".
_SUMS, _EXACT_SUMS = "sums", "exact_sums"


class Replicates(NamedTuple):
    """Values of a score in replicates.

    Attributes:
        values: (num,) float64.
        filled: which buckets have rows to draw, (buckets,) bool.
    """

    values: Array
    filled: NDArray[np.bool_]

    @property
    def interval(self) -> Interval:
        """The interval of the score, see `interval`."""
        return interval(self.values, int(self.filled.sum()))

    def over(self, other: "Replicates") -> "Replicates":
        """The ratio of this score to another.

        Over the same buckets both are of the same draws, so that what they have in common cancels. Over other buckets
        the draws are independent.
        """
        same = np.array_equal(self.filled, other.filled)
        # Equally many buckets draw alike. Moved on by one, the draws of one replicate and of the next meet.
        values = other.values if same else np.roll(other.values, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return Replicates(self.values / values, min(self.filled, other.filled, key=np.sum))


def replicates_of(sums: Mapping[str, Array]) -> dict[str, Replicates]:
    """Replicates of all scores that sums tell of.

    Args:
        sums: for each kind of rows, (buckets, 9), in the order of `SUM_COLUMNS`: "sums" of the coder's codes and maybe
            "exact_sums" of the exact ones, with a prefix such as "heldout_".

    Returns:
        By the names of a record, such as "S1", "heldout_exact_S1" and "coding_gap".
    """
    found: dict[str, Replicates] = {}
    for name, each in sums.items():
        prefix = name.removesuffix(_SUMS)
        drawn, filled = resample(each), _filled(each)
        for score, values in scores_of_sums(torch.from_numpy(drawn)).items():
            found[prefix + score] = Replicates(values.numpy(), filled)
        if (exact := prefix + _EXACT_SUMS) in sums:
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = drawn[:, _OBJECTIVE] / resample(sums[exact])[:, _BOUNDS] - 1
            found[f"{prefix}coding_gap"] = Replicates(gap, filled)
    return found


def mean_of(each: Sequence[Mapping[str, Replicates]]) -> dict[str, Replicates]:
    """Replicates of the mean of each score over several dictionaries, which coded the same rows."""
    first, *others = each
    return {
        name: Replicates(np.mean([one[name].values for one in each], axis=0), replicates.filled)
        for name, replicates in first.items()
        if all(name in other for other in others)
    }


def take_sums(values: dict[str, Tensor], rows: str) -> dict[str, Array]:
    """Take the sums out of the values of a pass over rows of one kind.

    Args:
        values: by name, as `Scorer.compute` returns them; the sums are removed.
        rows: the kind: "train", "heldout" or "unseen".

    Returns:
        The sums as `replicates_of` takes them.

    Example:
        >>> values = {"S1": torch.tensor(3.0), "sums": torch.zeros(2, 9)}
        >>> list(take_sums(values, "heldout")), list(values)
        (['heldout_sums'], ['S1'])
    """
    names = [name for name in (_SUMS, _EXACT_SUMS) if name in values]
    return {score_name(rows, name): values.pop(name).cpu().numpy() for name in names}


def resample(sums: Array, num: int = REPLICATES, seed: int = 0) -> Array:
    """Sums of replicates, each over as many buckets as have rows, drawn from these with replacement.

    Args:
        sums: of each bucket, (buckets, K), whose first column is the number of rows.
        num: number of replicates, >= 1.
        seed: of the draws, which depend on nothing else but the number of buckets that have rows.

    Returns:
        (num, K) float64.

    Example:
        >>> resample(np.array([[1.0, 5.0], [1.0, 5.0], [0.0, 0.0]]), num=3)  # two equal buckets and an empty one
        array([[ 2., 10.],
               [ 2., 10.],
               [ 2., 10.]])
    """
    full = sums[_filled(sums)]
    if len(full) == 0:
        return np.zeros((num, sums.shape[1]))
    replicates: Array = _draws(len(full), num, seed) @ full
    return replicates


@lru_cache(maxsize=8)
def _draws(buckets: int, num: int, seed: int) -> Array:
    """How often each bucket is drawn in each replicate, (num, buckets)."""
    random = np.random.default_rng([seed, buckets])
    return random.multinomial(buckets, np.full(buckets, 1 / buckets), size=num).astype(np.float64)


def _filled(sums: Array) -> NDArray[np.bool_]:
    filled: NDArray[Any] = sums[:, _ROWS] > 0
    return filled


def interval(replicates: Array, buckets: int, level: float = LEVEL) -> Interval:
    """The percentile interval of replicates, widened where the buckets are few.

    Replicates of few buckets vary too little, by a factor of sqrt(1 - 1 / buckets), and normal quantiles are too near
    (Hesterberg, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279, on the narrowness bias). The ends
    are therefore moved away from the median, by that factor and by the ratio of Student's quantile to the normal one:
    by 1.17 with 12 buckets, by 9.2 with two. They may then lie where the score cannot.

    Args:
        replicates: values of a score, (num,).
        buckets: number of the buckets with rows that they were drawn from.
        level: how often the interval is meant to cover the value, in (0, 1).

    Returns:
        Lower and upper end; NaN if there are fewer than two buckets, or if less than `level` of the replicates are
        finite. A replicate in which all codes are zero is not.

    Raises:
        ValueError: level is out of its range.

    Example:
        >>> for buckets in (10_000, 12):
        ...     low, high = interval(np.arange(1001.0), buckets)
        ...     print(round(low), round(high))
        25 975
        -57 1057
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a share in (0, 1), such as 0.95")
    finite = replicates[np.isfinite(replicates)]
    if buckets < 2 or len(finite) < level * len(replicates):
        return math.nan, math.nan
    tail = (1 - level) / 2
    wider = stdtrit(buckets - 1, tail) / ndtri(tail) * math.sqrt(buckets / (buckets - 1))
    low, middle, high = np.quantile(finite, [tail, 0.5, 1 - tail])
    return float(middle - (middle - low) * wider), float(middle + (high - middle) * wider)
