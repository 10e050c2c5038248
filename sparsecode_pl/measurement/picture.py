"""The picture of a measurement."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DATA, _CONTROL, _TRUTH = "#c2410c", "#64748b", "#0f766e"


def draw_sparsity(records: list[dict[str, Any]], path: Path) -> None:
    """Draw S1 and L_norm of the data and its controls, training rows beside held-out rows.

    Args:
        records: one for each data set, the measured data first.
        path: PNG file to write.
    """
    figure = Figure(figsize=(10, 1.6 + 0.75 * len(records)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, records, "S1", "S1, average coefficient norm")
    _bars(right, records, "L_norm", "L_norm, normalised loss")
    left.set_yticks(range(len(records)), [record["data"] for record in records])
    left.get_yticklabels()[0].set_fontweight("bold")
    left.invert_yaxis()
    if "half_active" in records[0]:
        for name, style, label in (("half_active", ":", "a/2"), ("oracle_S1", "-", "S1 of the true codes")):
            left.vlines(records[0][name], -0.48, 0.48, color=_TRUTH, linestyle=style, label=label)
        left.legend(frameon=False, fontsize=8)
    rows = "solid: training rows, light: held-out rows" if "heldout_S1" in records[0] else "training rows"
    figure.suptitle(f"How sparse is {records[0]['data']}?  Shorter is sparser  ({rows})", fontsize=11)
    figure.savefig(path)


def _bars(axes: Axes, records: list[dict[str, Any]], name: str, title: str) -> None:
    keys = [key for key in (name, f"heldout_{name}") if key in records[0]]
    height = 0.8 / len(keys)
    places = np.arange(len(records))
    colours = [_DATA] + [_CONTROL] * (len(records) - 1)
    for number, key in enumerate(keys):
        values = [record.get(key, np.nan) for record in records]
        spread = [record.get("spread", {}).get(key, 0) for record in records]
        offset = (number - (len(keys) - 1) / 2) * height
        bars = axes.barh(
            places + offset,
            values,
            height * 0.92,
            color=colours,
            alpha=1 - 0.55 * number,
            xerr=spread,
            ecolor="#334155",
        )
        axes.bar_label(bars, fmt=lambda value: f"{value:#.3g}".rstrip("."), padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
