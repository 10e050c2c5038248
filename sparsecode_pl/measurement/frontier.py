"""Scores against the share of the variance that the codes explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from sparsecode_pl.data import ROWS
from sparsecode_pl.measurement.picture import COLOURS, DATA_COLOUR, add_legend, draw_curve, question
from sparsecode_pl.measurement.rows_shown import key, telling

_SCORES = ("S1", "L_norm", "N0")
# What is labelled of each power of ten.
_TICKS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def draw_frontier(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw S1, L_norm and N0 of data and controls against the share, one column for each measured data set.

    Where curves cross, a conclusion holds at some shares only.

    Args:
        records: one for each data set, measured ones before their controls; nothing is written if none has scores at
            several shares.
        path: PNG file to write.
    """
    groups: list[list[Mapping[str, Any]]] = []
    for record in records:
        if "control_of" not in record:
            groups.append([])
        if groups and "frontier" in record:
            groups[-1].append(record)
    groups = [group for group in groups if group]
    if groups:
        frontier_figure(groups).savefig(path)


def frontier_figure(groups: Sequence[Sequence[Mapping[str, Any]]]) -> Figure:
    """The curves of some data sets.

    Args:
        groups: for each measured data set its record and those of its controls, all with a `frontier`.
    """
    best = telling([record for group in groups for record in group])
    width = max(6.4, min(3.2 * len(groups), 24.0)) if len(groups) > 1 else 5.2
    figure = Figure(figsize=(width, 2.5 * len(_SCORES) + 0.8), dpi=150, layout="constrained")
    grid = figure.subplots(len(_SCORES), len(groups), squeeze=False, sharex=True)
    controls = list(dict.fromkeys(record["data"] for group in groups for record in group if "control_of" in record))
    colours = dict(zip(controls, COLOURS * len(controls), strict=False))
    for column, group in zip(grid.T, groups, strict=True):
        column[0].set_title(group[0]["data"] if len(groups) > 1 else "", fontsize=9)
        for axes, name in zip(column, _SCORES, strict=True):
            wanted = key(best, name)
            for record in reversed(group):
                levels = sorted(
                    (level for level in record["frontier"] if wanted in level), key=lambda one: one["share"]
                )
                ends = [level.get("intervals", {}).get(wanted, (np.nan, np.nan)) for level in levels]
                data = "control_of" not in record
                draw_curve(
                    axes,
                    np.array([level["share"] for level in levels]),
                    np.array([level[wanted] for level in levels]),
                    np.array(ends, dtype=float).reshape(-1, 2),
                    DATA_COLOUR if data else colours[record["data"]],
                    "the data" if data else record["data"],
                    thick=data,
                )
            axes.set_yscale("log", subs=())
            axes.yaxis.set_major_locator(LogLocator(subs=_TICKS))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.set_ylabel(name)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        shares = sorted({level["share"] for record in group for level in record["frontier"]})
        column[-1].set_xticks(shares, [f"{share:g}" for share in shares])
        column[-1].set_xlabel("explained variance")
    add_legend(figure)
    everything = [record for group in groups for record in group]
    figure.suptitle(f"{question(everything)}\nScores of {ROWS[best]}; lower is sparser", fontsize=11)
    return figure
