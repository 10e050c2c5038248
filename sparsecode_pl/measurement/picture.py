"""The picture of a measurement."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DATA, _CONTROL, _TRUTH = "#c2410c", "#64748b", "#0f766e"
_EDGE = "#334155"
_BANDS = ("#64748b", "#2563eb", "#a16207", "#7c3aed", "#0f766e")
_TITLES = {
    "S1": "S1, average coefficient norm",
    "L_norm": "L_norm, normalised loss",
    "explained_variance": "explained variance",
}


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the scores: against the layer if several layers of a model were measured, otherwise as bars.

    Args:
        records: one for each data set, measured ones before their controls. Failed ones are left out, and nothing is
            written if none is left.
        path: PNG file to write.
    """
    records = [record for record in records if "S1" in record]
    measured = [record for record in records if "control_of" not in record]
    if not measured:
        return
    layered = all("layer" in record for record in records)
    figure = draw_layers(records) if layered and len(measured) > 1 else draw_bars(records)
    figure.savefig(path)


def draw_layers(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Scores against the layer, one column for each model; controls are bands from training to held-out rows.

    This is the paper's figure 3 with controls.
    """
    models = list(dict.fromkeys(record["model"] for record in records))
    names = list(_TITLES)
    figure = Figure(figsize=(max(6.4, 4.6 * len(models)), 8.2), dpi=150, layout="constrained")
    grid = figure.subplots(len(names), len(models), squeeze=False, sharex="col", height_ratios=(1, 1, 0.5))
    for column, model in enumerate(models):
        own = [record for record in records if record["model"] == model]
        layers = list(dict.fromkeys(record["layer"] for record in own))
        series = list(dict.fromkeys(record["data"] for record in own if "control_of" in record))
        for axes, name in zip(grid[:, column], names, strict=True):
            axes.set_title(_TITLES[name] if len(models) == 1 else f"{model}: {_TITLES[name]}", fontsize=10)
            for colour, control in zip(_BANDS * len(series), series, strict=False):
                chosen = [record for record in own if "control_of" in record and record["data"] == control]
                _band(axes, layers, chosen, name, colour, control)
            _lines(axes, layers, [record for record in own if "control_of" not in record], name)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if name == "explained_variance":  # never so close that the noise of the penalty search shows
                axes.set_ylim(min(0.9, axes.get_ylim()[0]), 1)
            else:
                axes.set_ylim(bottom=0)
        bottom = grid[-1, column]
        bottom.set_xticks(range(len(layers)), layers)
        if any(len(layer) > 3 for layer in layers):
            bottom.tick_params(axis="x", labelrotation=90)
        bottom.set_xlabel("layer")
    shown = {label: handle for axes in grid[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(f"{question(records)}\nLower is sparser; dashed: held-out rows", fontsize=11)
    return figure


def _values(layers: list[str], records: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """One value for each layer, NaN where it is missing."""
    found = {record["layer"]: record.get(key, np.nan) for record in records}
    return np.array([found.get(layer, np.nan) for layer in layers], dtype=float)


def _band(
    axes: Axes, layers: list[str], records: Sequence[Mapping[str, Any]], name: str, colour: str, label: str
) -> None:
    places = np.arange(len(layers))
    training, heldout = _values(layers, records, name), _values(layers, records, f"heldout_{name}")
    if np.isfinite(heldout).any():
        axes.fill_between(places, training, heldout, color=colour, alpha=0.22, linewidth=0)
        axes.plot(places, heldout, color=colour, linewidth=0.9, linestyle="--")
    axes.plot(places, training, color=colour, linewidth=0.9, label=label)


def _lines(axes: Axes, layers: list[str], records: Sequence[Mapping[str, Any]], name: str) -> None:
    places = np.arange(len(layers))
    heldout = _values(layers, records, f"heldout_{name}")
    if np.isfinite(heldout).any():
        axes.plot(
            places,
            heldout,
            "o--",
            color=_DATA,
            markersize=3.5,
            linewidth=1.3,
            alpha=0.65,
            label="model on held-out rows",
        )
    training = _values(layers, records, name)
    axes.plot(places, training, "o-", color=_DATA, markersize=4.5, linewidth=1.8, label="model on its training rows")


def draw_bars(records: Sequence[Mapping[str, Any]]) -> Figure:
    """S1 and L_norm of each data set, training rows beside held-out rows; exact codes as outlines."""
    figure = Figure(figsize=(10, 1.6 + 0.75 * len(records)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, records, "S1")
    _bars(right, records, "L_norm")
    left.set_yticks(range(len(records)), [record["data"] for record in records])
    left.invert_yaxis()
    for label, record in zip(left.get_yticklabels(), records, strict=True):
        label.set_fontweight("normal" if "control_of" in record else "bold")
    for place, record in enumerate(records):
        if "half_active" in record:
            for name, style, text in (("half_active", ":", "a/2"), ("oracle_S1", "-", "S1 of the true codes")):
                span = place - 0.48, place + 0.48
                left.vlines(record[name], *span, color=_TRUTH, linestyle=style, label="" if place else text)
    if left.get_legend_handles_labels()[0]:
        left.legend(frameon=False, fontsize=8)
    rows = "solid: training rows, light: held-out rows" if "heldout_S1" in records[0] else "training rows"
    figure.suptitle(f"{question(records)}  Shorter is sparser  ({rows})", fontsize=11)
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
    keys = [key for key in (name, f"heldout_{name}") if key in records[0]]
    height = 0.8 / len(keys)
    places = np.arange(len(records))
    colours = [_CONTROL if "control_of" in record else _DATA for record in records]
    for number, key in enumerate(keys):
        values = [record.get(key, np.nan) for record in records]
        spread = [record.get("spread", {}).get(key, 0) for record in records]
        labels = [_short(value) for value in values]
        offset = (number - (len(keys) - 1) / 2) * height
        axes.barh(
            places + offset,
            values,
            height * 0.92,
            color=colours,
            alpha=1 - 0.55 * number,
            xerr=spread,
            ecolor=_EDGE,
        )
        exact = [record.get(key.replace(name, f"exact_{name}"), np.nan) for record in records]
        if np.isfinite(exact).any():
            text = "" if number else "exact codes (in brackets)"
            axes.barh(places + offset, exact, height * 0.92, color="none", edgecolor=_EDGE, linewidth=0.9, label=text)
            labels = [f"{label} ({_short(value)})" for label, value in zip(labels, exact, strict=True)]
        longer = axes.barh(places + offset, np.fmax(values, exact), alpha=0, xerr=spread, error_kw={"alpha": 0})
        axes.bar_label(longer, labels, padding=3, fontsize=8)
    axes.margins(x=0.12 if all("coding_gap" not in record for record in records) else 0.18)
    axes.set_title(_TITLES[name], fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _short(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
