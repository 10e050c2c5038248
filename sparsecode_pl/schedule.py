"""How learning rate and penalty change within a round."""


def rate_at(progress: float) -> float:
    """Factor on the learning rate: constant in the first half of a round, then falling linearly to 0.

    Args:
        progress: completed share of the round, in [0, 1).

    Example:
        >>> rate_at(0.25), rate_at(0.75)
        (1.0, 0.5)
    """
    return min(1.0, 2.0 - 2.0 * progress)


def penalty_at(progress: float, start: float, end: float) -> float:
    """Penalty within a round: from `start` linearly to `end` in the first half, then constant.

    Args:
        progress: completed share of the round, in [0, 1).
        start: penalty at the start of the round.
        end: penalty of the second half.

    Example:
        >>> penalty_at(0.25, start=0.3, end=0.1), penalty_at(0.75, start=0.3, end=0.1)
        (0.2, 0.1)
    """
    share = min(1.0, 2.0 * progress)
    return start * (1 - share) + end * share
