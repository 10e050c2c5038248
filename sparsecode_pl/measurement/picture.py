"""The picture of a measurement."""

from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsecode_pl.data import ROWS
from sparsecode_pl.measurement.arm import codes_label
from sparsecode_pl.utilities.files import write_file
from sparsecode_pl.utilities.row_kinds import kinds_of, score_name, telling

# Orange, grey and blue can be told apart whatever colours one sees.
DATA_COLOUR, _CONTROL, _TRUTH, _SAE = "#c2410c", "#64748b", "#0f766e", "#1d4ed8"
_EDGE = "#334155"
# Of the codes of autoencoders, where several of them are curves.
_SAE_SHADES = ("#1e3a8a", "#2563eb", "#60a5fa")
COLOURS = ("#64748b", "#2563eb", "#a16207", "#7c3aed", "#0f766e")
_MARKS = {"train": "D", "heldout": "o"}
_TITLES = {"S1": "S1, average coefficient norm", "L_norm": "L_norm, normalised loss"}


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the scores: against the layer if several layers of a model were measured, otherwise as bars.

    Args:
        records: one for each data set, measured ones before their controls. Failed ones are left out, and nothing is
            written if none is left.
        path: PNG file to write.
    """
    figure = _figure_of(records)
    if figure is not None:
        save_figure(figure, path)


def picture_svg(records: Sequence[Mapping[str, Any]]) -> str | None:
    """The same picture as SVG, with its text as text; None if there is nothing to draw."""
    figure = _figure_of(records)
    if figure is None:
        return None
    content = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparsecode"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue().decode()


def _figure_of(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The picture, of all records that did not fail; None if none is left."""
    records = [record for record in records if kinds_of([record])]
    measured = [record for record in records if "control_of" not in record]
    if not measured:
        return None
    layered = all("layer" in record for record in records)
    return draw_layers(records) if layered and len(measured) > 1 else draw_bars(records)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, atomically, in the format that the path's ending names."""
    content = BytesIO()
    figure.savefig(content, format=path.suffix[1:])
    write_file(path, content.getvalue())


def draw_layers(records: Sequence[Mapping[str, Any]]) -> Figure:
    """S1 and L_norm against the layer, one column for each model: data and controls, with bands for their intervals.

    This is the paper's figure 3 with controls. The first row shows the most telling rows (see `telling`), the second
    the training rows, which repetition flatters.
    """
    models = list(dict.fromkeys(record["model"] for record in records))
    best = telling(records)
    panels = [("S1", best), *([("S1", "train")] if best != "train" else []), ("L_norm", best)]
    figure = Figure(figsize=(max(6.4, 4.6 * len(models)), 2.7 * len(panels) + 1), dpi=150, layout="constrained")
    grid = figure.subplots(len(panels), len(models), squeeze=False, sharex="col")
    beside = [record for record in records if "control_of" in record and _in_layers(record)]
    name_of = partial(_curve_name, alike=_one_each(beside))
    controls = list(dict.fromkeys(name_of(record) for record in beside if "arm" not in record))
    colours = dict(zip(controls, COLOURS * len(controls), strict=False))
    arms = list(dict.fromkeys(name_of(record) for record in beside if "arm" in record))
    colours |= dict(zip(arms, _SAE_SHADES * len(arms), strict=False))
    for column, model in enumerate(models):
        own = [record for record in records if record["model"] == model]
        layers = list(dict.fromkeys(record["layer"] for record in own))
        for axes, (name, kind) in zip(grid[:, column], panels, strict=True):
            if axes is grid[0, column] and len(models) > 1:
                axes.set_title("\n".join(wrap(model, 36)), fontsize=10)
            if column == 0:
                axes.set_ylabel(f"{name}, {ROWS[kind]}")
            for control, colour in colours.items():
                chosen = [record for record in beside if record["model"] == model and name_of(record) == control]
                if chosen:
                    _curve(axes, layers, chosen, score_name(kind, name), colour, control, thick=False)
            measured = [record for record in own if "control_of" not in record]
            _curve(axes, layers, measured, score_name(kind, name), DATA_COLOUR, "the data", thick=True)
            axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        bottom = grid[-1, column]
        bottom.set_xticks(range(len(layers)), layers)
        if any(len(layer) > 3 for layer in layers):
            bottom.tick_params(axis="x", labelrotation=90)
        bottom.set_xlabel("layer")
    add_legend(figure)
    bands = "; bands: 95 % intervals" if any("intervals" in record for record in records) else ""
    asked = "\n".join(wrap(question(records), 34 * len(models) + 30))
    figure.suptitle(f"{asked}\nLower is sparser{bands}", fontsize=11)
    return figure


def _in_layers(record: Mapping[str, Any]) -> bool:
    """Whether a record is a curve among the layers: of the codes of autoencoders, the own ones and the greedy ones."""
    return "arm" not in record or record["arm"]["role"] in ("own", "greedy")


def _one_each(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether layers have different autoencoders beside them, but none has several."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        if "arm" in record:
            found.setdefault((record["model"], record["layer"]), set()).add(record["arm"]["sae"])
    return all(len(names) == 1 for names in found.values()) and len(set().union(*found.values())) > 1


def _curve_name(record: Mapping[str, Any], *, alike: bool) -> str:
    """What the curve of a control among the layers is called; one curve is for autoencoders `alike`, one a layer."""
    return f"autoencoder, {codes_label(record['arm'])}" if alike and "arm" in record else record["data"]


def add_legend(figure: Figure) -> None:
    """One legend below the panels for all their curves."""
    found = (pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    shown = {label: handle for handle, label in found}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _curve(
    axes: Axes,
    layers: list[str],
    records: Sequence[Mapping[str, Any]],
    name: str,
    colour: str,
    label: str,
    *,
    thick: bool,
) -> None:
    """A score against the layer, NaN where it is missing."""
    found = {record["layer"]: record for record in records}
    values = np.array([found.get(layer, {}).get(name, np.nan) for layer in layers], dtype=float)
    ends = np.array([_interval(found.get(layer, {}), name) for layer in layers], dtype=float)
    draw_curve(axes, np.arange(len(layers)), values, ends, colour, label, thick=thick)


def draw_curve(
    axes: Axes, places: np.ndarray, values: np.ndarray, ends: np.ndarray, colour: str, label: str, *, thick: bool
) -> None:
    """A curve with a band for its intervals.

    Args:
        axes: where to draw.
        places: (n,).
        values: (n,), NaN where there are none.
        ends: lower and upper ends of their intervals, (n, 2), NaN where there are none.
        colour: of both.
        label: for the legend.
        thick: whether it is the data rather than a control.
    """
    if np.isfinite(ends).any():
        axes.fill_between(places, ends[:, 0], ends[:, 1], color=colour, alpha=0.2, linewidth=0)
    style: Any = {"marker": "o", "markersize": 4.5, "linewidth": 1.8} if thick else {"marker": ".", "linewidth": 1.0}
    axes.plot(places, values, color=colour, label=label, zorder=3 if thick else 2, **style)


def _interval(record: Mapping[str, Any], name: str) -> tuple[float, float]:
    low, high = record.get("intervals", {}).get(name, (np.nan, np.nan))
    return low, high


def draw_bars(records: Sequence[Mapping[str, Any]]) -> Figure:
    """S1 and L_norm of each data set: bars for the most telling rows (see `telling`), marks for the others.

    Whiskers are 95 % intervals, outlines are exact codes.
    """
    figure = Figure(figsize=(10, 2.0 + 0.5 * len(records)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, records, "S1")
    _bars(right, records, "L_norm")
    left.set_yticks(range(len(records)), [record["data"] for record in records])
    left.invert_yaxis()
    for label, record in zip(left.get_yticklabels(), records, strict=True):
        label.set_fontweight("normal" if "control_of" in record else "bold")
    for place, record in enumerate(records):
        for name, style, text in (("half_active", ":", "a/2"), ("oracle_S1", "-", "S1 of the true codes")):
            if name in record and "control_of" not in record:
                span = place - 0.48, place + 0.48
                left.vlines(record[name], *span, color=_TRUTH, linestyle=style, label=text)
    add_legend(figure)
    figure.suptitle(f"{question(records)}  Shorter is sparser", fontsize=11)
    return figure


def question(records: Sequence[Mapping[str, Any]]) -> str:
    """The question of a measurement, as a title."""
    measured = [record for record in records if "control_of" not in record]
    names = list(dict.fromkeys(record.get("model", record["data"]) for record in measured))
    if len(measured) == 1:
        return f"How sparse is {measured[0]['data']}?"
    layers = "the layers of " if all("layer" in record for record in measured) else ""
    return f"How sparse are {layers}{', '.join(names)}?"


def _bars(axes: Axes, records: Sequence[Mapping[str, Any]], name: str) -> None:
    best, places = telling(records), np.arange(len(records))
    colours = [_SAE if "arm" in record else _CONTROL if "control_of" in record else DATA_COLOUR for record in records]
    values = np.array([record.get(score_name(best, name), np.nan) for record in records])
    ends = np.array([_interval(record, score_name(best, name)) for record in records])
    whiskers = np.nan_to_num(np.abs(ends - values[:, None])).T
    shown: Any = {"error_kw": {"elinewidth": 1.0, "capsize": 2}} if whiskers.any() else {"error_kw": {"alpha": 0}}
    axes.barh(places, values, 0.62, color=colours, alpha=0.85, xerr=whiskers, ecolor=_EDGE, label=ROWS[best], **shown)
    exact = [record.get(score_name(best, f"exact_{name}"), np.nan) for record in records]
    labels = [
        _short(value) if np.isfinite(value) or score_name(best, name) in record else ""
        for value, record in zip(values, records, strict=True)
    ]
    if np.isfinite(exact).any():
        text = "exact codes (in brackets)"
        axes.barh(places, exact, 0.62, color="none", edgecolor=_EDGE, linewidth=0.9, label=text)
        labels = [f"{label} ({_short(value)})" for label, value in zip(labels, exact, strict=True)]
    for kind in kinds_of(records):
        marks = [record.get(score_name(kind, name), np.nan) for record in records]
        if kind != best and kind in _MARKS:
            style: Any = {"marker": _MARKS[kind], "s": 26, "linewidths": 1.1, "zorder": 4}
            axes.scatter(marks, places, facecolor="white", edgecolor=_EDGE, label=ROWS[kind], **style)
    longest = np.fmax(np.fmax(values, exact), np.nan_to_num(ends[:, 1]))
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # a line of the truth may be there
    axes.bar_label(axes.barh(places, longest, alpha=0), labels, padding=4, fontsize=8, bbox=behind)
    axes.margins(x=0.14 if all("coding_gap" not in record for record in records) else 0.2)
    axes.set_title(_TITLES[name], fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _short(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
