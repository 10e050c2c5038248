"""Scores against the share of the variance that the codes explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from sparsecode_pl.data import ROWS
from sparsecode_pl.measurement.picture import COLOURS, DATA_COLOUR, add_legend, draw_curve, question, save_figure
from sparsecode_pl.utilities.row_kinds import score_name, telling

_SCORES = ("S1", "L_norm", "N0")
# Data sets with all scores beside each other, at most, and panels in a row if there are more of them.
_MOST_COLUMNS, _MOST_PANELS = 4, 8
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
        save_figure(frontier_figure(groups), path)


def frontier_figure(groups: Sequence[Sequence[Mapping[str, Any]]]) -> Figure:
    """The curves of some data sets: all scores one below the other, or S1 alone if there are many data sets.

    Args:
        groups: for each measured data set its record and those of its controls, all with a `frontier`.
    """
    everything = [record for group in groups for record in group]
    best = telling(everything)
    controls = list(dict.fromkeys(record["data"] for record in everything if "control_of" in record))
    colours = dict(zip(controls, COLOURS * len(controls), strict=False))
    if len(groups) <= _MOST_COLUMNS:
        width = 5.2 if len(groups) == 1 else 3.4 * len(groups)
        figure = Figure(figsize=(width, 2.5 * len(_SCORES) + 0.8), dpi=150, layout="constrained")
        grid = figure.subplots(len(_SCORES), len(groups), squeeze=False, sharex=True)
        for column, group in zip(grid.T, groups, strict=True):
            column[0].set_title(_wrapped(group[0]["data"]) if len(groups) > 1 else "", fontsize=9)
            for axes, name in zip(column, _SCORES, strict=True):
                _curves(axes, group, score_name(best, name), colours)
                axes.set_ylabel(name)
            column[-1].set_xlabel("explained variance")
        what = f"Scores of {ROWS[best]}"
    else:
        rows = _rows_of_panels(groups)
        columns = max(map(len, rows))
        size = max(6.4, 1.9 * columns), 2.1 * len(rows) + 1.2
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        for panels, row in zip(figure.subplots(len(rows), columns, squeeze=False, sharex=True), rows, strict=True):
            for axes, group in zip(panels, row, strict=False):
                axes.set_title(_wrapped(group[0]["data"]), fontsize=7)
                _curves(axes, group, score_name(best, "S1"), colours)
            for axes in panels[len(row) :]:
                axes.set_axis_off()
        panels[0].set_xlabel("explained variance", fontsize=8)
        what = f"S1 of {ROWS[best]}"
    add_legend(figure)
    figure.suptitle(f"{_wrapped(question(everything), 90)}\n{what}; lower is sparser", fontsize=11)
    return figure


def _rows_of_panels(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Sequence[Mapping[str, Any]]]]:
    """The data sets in rows, the layers of each model in rows of their own."""
    rows: list[list[Sequence[Mapping[str, Any]]]] = []
    for group in groups:
        same = rows and group[0].get("model") == rows[-1][-1][0].get("model")
        if not same or len(rows[-1]) == _MOST_PANELS:
            rows.append([])
        rows[-1].append(group)
    return rows


def _curves(axes: Axes, group: Sequence[Mapping[str, Any]], name: str, colours: Mapping[str, str]) -> None:
    """A score of data and controls against the share."""
    for record in reversed(group):
        levels = sorted((level for level in record["frontier"] if name in level), key=lambda level: level["share"])
        ends = [level.get("intervals", {}).get(name, (np.nan, np.nan)) for level in levels]
        data = "control_of" not in record
        draw_curve(
            axes,
            np.array([level["share"] for level in levels]),
            np.array([level[name] for level in levels]),
            np.array(ends, dtype=float).reshape(-1, 2),
            DATA_COLOUR if data else colours[record["data"]],
            "the data" if data else record["data"],
            thick=data,
        )
    axes.set_yscale("log", subs=())
    axes.yaxis.set_major_locator(LogLocator(subs=_TICKS))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    shares = sorted({level["share"] for record in group for level in record["frontier"]})
    axes.set_xticks(shares, [f"{share:g}".removeprefix("0") for share in shares])
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _wrapped(text: str, width: int = 28) -> str:
    return "\n".join(wrap(text, width, break_long_words=False))
