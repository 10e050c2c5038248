"""The penalty at which codes explain a given share of the variance."""

import math
from collections.abc import Callable
from functools import cache

import torch
from scipy.optimize import brentq
from torch import Tensor

from sparsecode_pl.analysis.loss.arms import mean_nonzero
from sparsecode_pl.codec import Codec
from sparsecode_pl.scoring import Scores, score

#: Relative precision of the penalty.
PRECISION = 0.01
# A step changes the penalty by factors from the first to the second.
_SHORTEST, _LONGEST = math.log(1.02), math.log(4.0)
# Whether the share can be reached at all is seen on so many rows, at a penalty so much smaller than the first.
_FLOOR_ROWS, _FLOOR = 256, 1e-4
# A number of coefficients is bracketed by steps of this factor, at most so many.
_STEP, _MOST_STEPS = math.log(1.5), 30
# First on a few rows, which are to have this share of it. It is given up if N0 grows by less than `_STILL` over two
# steps, once it is `_SOME` of the number: a few rows of large norm may have codes long before the others. Smaller
# shares than `_FEWEST` are taken for that.
_ENOUGH, _STILL, _SOME, _FEWEST = 0.9, 1e-3, 0.1, 1e-3


class ShareNotReachedError(ValueError):
    """No penalty makes the codes explain the share, or have so many non-zero coefficients."""


def largest_penalty(
    codec: Codec, rows: Tensor, share: float, start: float, known: float | None = None
) -> tuple[float, float]:
    """The largest penalty at which the codes of some rows explain a share of their variance (paper, appendix H).

    The unexplained share is nearly a power of the penalty, so steps are taken along the logarithms. They come from
    above, where codes are sparse and cheap. A penalty far below the one that is found is never tried, except on a few
    rows to see whether the share can be reached at all. Processes do not work together here: each scores the rows that
    it is given.

    Args:
        codec: a learnt dictionary.
        rows: activations as they come, (n, d), a sample of those that are to reach the share.
        share: of the variance about the mean, in (0, 1).
        start: penalty to begin at, > 0.
        known: what the codes of all rows explain at `start`. It corrects for what is peculiar to the sample.

    Returns:
        The penalty, to 1 %, and the slope there of the logarithm of the unexplained share against that of the penalty.

    Raises:
        ShareNotReachedError: no penalty reaches the share; the message says how near the smallest came.
        ValueError: the codes do not depend on the penalty.

    Example:
        >>> import torch
        >>> from sparsecode_pl import Dictionary
        >>> x = 3 * torch.cat([torch.eye(4), -torch.eye(4)])  # each row is an atom's, with a residual of lam / 2
        >>> lam, slope = largest_penalty(Dictionary(x / 3), x, share=0.96, start=0.1)
        >>> round(lam, 1), round(slope, 1)  # (lam / 2 / 3)^2 = 0.04
        (1.2, 2.0)
    """
    codec = codec.bind()
    norms = torch.linalg.vector_norm(codec.standardise(rows), dim=1, dtype=torch.float64)
    most = 2 * float(norms.max())  # from there on all codes are zero
    start = min(start, 0.99 * most)

    def unexplained(lam: float, some: Tensor) -> float:
        return max(1e-30, 1 - float(score(codec, some, [Scores(lam)], sync=False)["explained_variance"]))

    first = unexplained(start, rows)
    correction = first / (1 - known) if known is not None and known < 1 else 1.0
    if first > correction * (1 - share):
        few = rows[:: max(1, len(rows) // _FLOOR_ROWS)]
        least = unexplained(_FLOOR * start, few) * first / unexplained(start, few) / correction
        if least > 1 - share:
            raise _not_reached(share, least)

    @cache
    def excess(log_lam: float) -> float:
        """Above 0 where the penalty is too large."""
        return math.log(unexplained(math.exp(log_lam), rows) / (correction * (1 - share)))

    here, value, slope = math.log(start), math.log(first / (correction * (1 - share))), 1.0
    while True:
        step = min(_LONGEST, max(_SHORTEST, 1.1 * abs(value) / slope))
        there = max(min(here - math.copysign(step, value), math.log(most)), math.log(_FLOOR * start))
        if there == here:
            break
        found = excess(there)
        slope = min(3.0, max(0.1, (found - value) / (there - here)))
        if (found > 0) != (value > 0):
            ends = sorted((here, there))
            return math.exp(brentq(excess, *ends, xtol=PRECISION / 2)), slope
        here, value = there, found
    if value > 0:
        raise _not_reached(share, (1 - share) * math.exp(value))
    raise ValueError(
        "explained_variance asks for another penalty, but the codes of this coder do not depend on it: leave "
        "explained_variance out"
    )


def penalty_of_count(codec: Codec, rows: Tensor, count: float, start: float) -> tuple[float, float]:
    """The penalty at which the codes of some rows have a given mean number of non-zero coefficients.

    Dense codes are slow, so a few rows tell first whether so many can be reached at all. Processes do not work
    together here: each scores the rows that it is given.

    Args:
        codec: whose number of non-zero coefficients falls as the penalty rises.
        rows: activations as they come, (n, d), a sample of those that are to have so many.
        count: the N0 that is wanted, > 0.
        start: penalty to begin at, > 0.

    Returns:
        The penalty, to a tenth of a per cent, and the slope there of the logarithm of N0 against that of the penalty,
        made positive.

    Raises:
        ShareNotReachedError: no penalty gives so many; the message says how near the smallest came.

    Example:
        >>> import torch
        >>> from sparsecode_pl import Dictionary
        >>> x = torch.diag(torch.arange(1.0, 11.0))  # row i is i times atom i, and has a code while lam < 2 i
        >>> lam, slope = penalty_of_count(Dictionary(torch.eye(10)), x, count=0.45, start=1.0)
        >>> round(lam)  # five of ten rows have one, or four
        12
    """
    if not count > 0:
        raise ShareNotReachedError(f"N0 is to be {count:.4g}, which no penalty is sought for")
    codec = codec.bind()
    few = rows[:: max(1, len(rows) // _FLOOR_ROWS)]
    _, here = _bracket(_excess(codec, few, count), math.log(start), count, _ENOUGH)
    excess = _excess(codec, rows, count)
    ends = _bracket(excess, here, count)
    slope = min(3.0, max(0.1, (excess(ends[0]) - excess(ends[1])) / _STEP))
    return math.exp(brentq(excess, *ends, xtol=PRECISION / 10)), slope


def _excess(codec: Codec, rows: Tensor, count: float) -> Callable[[float], float]:
    """What is above 0 where the penalty, given by its logarithm, is too small: the logarithm of N0 over the count."""

    @cache
    def excess(log_lam: float) -> float:
        return math.log(max(mean_nonzero(codec, rows, math.exp(log_lam)), _FEWEST * count) / count)

    return excess


def _bracket(excess: Callable[[float], float], here: float, count: float, share: float = 1.0) -> tuple[float, float]:
    """Logarithms of two penalties, the smaller first, between which N0 is a share of the number that is wanted.

    Raises:
        ShareNotReachedError: N0 stays below.
    """
    wanted = math.log(share)
    down = excess(here) < wanted  # too few: the penalty must fall
    passed = [excess(here)]
    for _ in range(_MOST_STEPS):
        there = here + (-_STEP if down else _STEP)
        if (excess(there) < wanted) != down:
            return min(here, there), max(here, there)
        here = there
        passed.append(excess(here))
        if down and len(passed) > 2 and math.log(_SOME) < passed[-3] > passed[-1] - _STILL:
            break
    raise ShareNotReachedError(
        f"N0 is to be {count:.4g}, but the codes have {count * math.exp(excess(here)):.4g} non-zero coefficients at a "
        f"penalty of {math.exp(here):.3g}"
    )


def _not_reached(share: float, least: float) -> ShareNotReachedError:
    return ShareNotReachedError(
        f"explained_variance is {share}, but however small the penalty, the codes explain no more than about "
        f"{1 - least:.4f}: give a smaller share or more atoms"
    )
