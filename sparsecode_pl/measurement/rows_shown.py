"""Which kinds of rows a table or a picture shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparsecode_pl.data import ROWS, score_name


def kinds_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of rows that some record has scores of, in the order of `ROWS`."""
    return [kind for kind in ROWS if any(score_name(kind, "S1") in record for record in records)]


def telling(records: Sequence[Mapping[str, Any]]) -> str:
    """The kind of rows that says most about what the data are made of.

    Unseen tokens if there are any, or else held-out rows, or else training rows: a dictionary over-fits the rows that
    it was trained on, and text repeats its tokens.
    """
    measured = [record for record in records if "control_of" not in record] or records
    return (kinds_of(measured) or ["train"])[-1]
