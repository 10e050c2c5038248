"""The bootstrap over buckets of rows that belong together, such as the documents of a text.

A replicate draws as many buckets as there are, with replacement. Which ones are drawn depends on their number alone, so
what was computed differently over the same rows can be compared replicate by replicate.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

#: Replicates that an interval is taken from.
REPLICATES = 1000
#: How often an interval is meant to cover the value that it is of.
LEVEL = 0.95

Array = NDArray[np.float64]
#: Lower and upper end.
Interval = tuple[float, float]


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
    full = sums[filled(sums)]
    if len(full) == 0:
        return np.zeros((num, sums.shape[1]))
    replicates: Array = _draws(len(full), num, seed) @ full
    return replicates


@lru_cache(maxsize=8)
def _draws(buckets: int, num: int, seed: int) -> Array:
    """How often each bucket is drawn in each replicate, (num, buckets)."""
    random = np.random.default_rng([seed, buckets])
    return random.multinomial(buckets, np.full(buckets, 1 / buckets), size=num).astype(np.float64)


def filled(sums: Array) -> NDArray[np.bool_]:
    """Which buckets have rows, (buckets,), given their sums, (buckets, K), whose first column is the number of rows."""
    has_rows: NDArray[np.bool_] = sums[:, 0] > 0
    return has_rows


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
