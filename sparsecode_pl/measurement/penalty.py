"""The penalty at which codes explain a given share of the variance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparsecode_pl.coding import Coder, reconstruct
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.metrics.functional import explained_variance


def largest_penalty(
    dictionary: Dictionary, coder: Coder, x: Tensor, share: float, start: float, tolerance: float = 0.01
) -> float:
    """The largest penalty at which the codes of `x` explain a share of its variance (paper, appendix H).

    By doubling or halving `start` until the share lies between two penalties, then by bisection of their logarithms.

    Args:
        dictionary: a learnt dictionary.
        coder: how codes are found.
        x: activations as they come, (n, d).
        share: of the variance about the mean, in (0, 1).
        start: penalty to begin at, > 0.
        tolerance: relative precision of the result.

    Raises:
        ValueError: no penalty reaches the share; the message says how near the smallest came.

    Example:
        >>> from sparsecode_pl.coding import GreedyCoder
        >>> x = 3 * torch.cat([torch.eye(4), -torch.eye(4)])  # each row one atom's, and its residual is lam / 2
        >>> dictionary = Dictionary(x / 3)
        >>> round(largest_penalty(dictionary, GreedyCoder(), x, share=0.96, start=0.1), 1)  # (lam/2 / 3)^2 = 0.04
        1.2
    """
    x = dictionary.standardise(x)
    bound = coder.bind(dictionary.atoms)

    def explained(lam: float) -> float:
        residuals = []
        for block in x.split(4096):
            residuals.append(block - reconstruct(bound(block, lam), bound.atoms))
        return float(explained_variance(torch.cat(residuals), x))

    with torch.no_grad():
        start = min(start, 2 * float(x.norm(dim=1).max()))  # from there on all codes are zero
        enough, too_large = _bracket(explained, share, start)
        while too_large > enough * (1 + tolerance):
            middle = math.sqrt(enough * too_large)
            if explained(middle) >= share:
                enough = middle
            else:
                too_large = middle
    return enough


def _bracket(explained: Callable[[float], float], share: float, start: float) -> tuple[float, float]:
    """A penalty that explains the share, and one not more than twice as large that does not."""
    lam, reached = start, explained(start)
    while reached >= share:
        lam, reached = 2 * lam, explained(2 * lam)
    best = reached
    while reached < share:
        lam, reached = lam / 2, explained(lam / 2)
        if reached < best + 1e-4 and lam < 1e-3 * start:
            raise ValueError(
                f"explained_variance is {share}, but however small the penalty, the codes explain no more than "
                f"{max(best, reached):.4f}: give a smaller share or more atoms"
            )
        best = max(best, reached)
    return lam, 2 * lam
