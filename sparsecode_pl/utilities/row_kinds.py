"""The kinds of rows that are scored, and what their scores are called."""

from collections.abc import Mapping, Sequence
from typing import Any

#: Kinds of rows and their names for readers, in the order in which they are scored and shown.
ROWS = {"train": "training rows", "heldout": "held-out rows", "unseen": "unseen tokens"}


def score_name(kind: str, name: str) -> str:
    """The name in a record of a score of rows of a kind.

    Args:
        kind: one of `ROWS`; names of scores of training rows have no prefix.
        name: of the score.

    Example:
        >>> [score_name(kind, "S1") for kind in ROWS]
        ['S1', 'heldout_S1', 'unseen_S1']
    """
    return name if kind == "train" else f"{kind}_{name}"


def kinds_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of rows that some record has scores of, in the order of `ROWS`.

    Example:
        >>> kinds_of([{"S1": 2.0}, {"S1": 9.0, "unseen_S1": 9.5}])
        ['train', 'unseen']
    """
    return [kind for kind in ROWS if any(score_name(kind, "S1") in record for record in records)]


def telling(records: Sequence[Mapping[str, Any]]) -> str:
    """The kind of rows that says most about what the data are made of.

    Unseen tokens if there are any, or else held-out rows, or else training rows: a dictionary over-fits the rows that
    it was trained on, and text repeats its tokens.
    """
    measured = [record for record in records if "control_of" not in record] or records
    return (kinds_of(measured) or ["train"])[-1]
