"""Data beside its controls: ratios of their scores, and how sure scores and ratios are."""

import math
from collections.abc import Mapping
from dataclasses import replace

from sparsecode_pl.measurement.intervals import Replicates, mean_of
from sparsecode_pl.measurement.record import Record

# What a record says of itself apart from its scores.
_NAMES = ("data", "model", "layer", "control_of", "arm")
# Scores that a control is compared by.
_COMPARED = ("S1", "heldout_S1", "unseen_S1", "exact_S1", "heldout_exact_S1", "unseen_exact_S1")


def with_ratios(record: Record, source: Record | None = None) -> Record:
    """A record with its intervals, its frontier and, of a control, the ratios of the data's scores to its own.

    Args:
        record: of all fits of a data set.
        source: of a control, the record of the data that it is a control of.
    """
    levels = []
    for share in sorted(level.share for level in record.fits[0].levels):
        at = _at(record, share)
        if at is not None:
            level = _compared(at, None if source is None else _at(source, share))
            levels.append({"share": share} | {name: value for name, value in level.items() if name not in _NAMES})
    return replace(_compared(record, source), frontier=tuple(levels))


def _at(record: Record, share: float) -> Record | None:
    """The record with the scores at one of several shares; None if a fit does not have it."""
    fits = tuple(fit for each in record.fits if (fit := each.at(share)) is not None)
    return replace(record, fits=fits) if len(fits) == len(record.fits) else None


def _compared(record: Record, source: Record | None) -> Record:
    replicates = _replicates(record)
    # In the order of the scores, for sums that were read back come in another one than they were taken in.
    intervals = {name: replicates[name].interval for name in record.scores if name in replicates}
    if source is None:
        return replace(record, intervals=intervals)
    others = _replicates(source)
    intervals |= {
        f"{name}_ratio": others[name].over(replicates[name]).interval
        for name in _COMPARED
        if name in replicates and name in others
    }
    return replace(record, intervals=intervals, ratios=_ratios(source.scores, record.scores))


def _ratios(source: Mapping[str, float], control: Mapping[str, float]) -> dict[str, float]:
    return {
        f"{name}_ratio": source[name] / control[name] if control[name] else math.nan
        for name in _COMPARED
        if name in control and name in source
    }


def _replicates(record: Record) -> dict[str, Replicates]:
    return mean_of([fit.replicates for fit in record.fits]) if record.error is None else {}
