"""The numbers of a measurement as a table and as files."""

import csv
import json
import math
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_PACKAGES = ("sparsecode-pl", "torch", "lightning", "torchmetrics", "numba", "numpy", "transformers")


def write_results(folder: Path, records: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Write `results.json` (versions, settings, results) and `results.csv`; NaN becomes null, or an empty cell.

    Args:
        folder: the run folder.
        records: one for each data set.
        settings: the run's configuration, of plain types.
    """
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    results = {"versions": versions, "settings": settings, "results": _plain(records)}
    _replace(folder / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    flat = [
        {name: value for name, value in record.items() if name != "spread"}
        | {f"{name}_spread": value for name, value in record.get("spread", {}).items()}
        for record in _plain(records)
    ]
    columns = dict.fromkeys(name for record in flat for name in record)
    partial = folder / "results.csv.partial"
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(flat)
    partial.replace(folder / "results.csv")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _plain(value: Any) -> Any:
    """The same with null for numbers that JSON cannot say."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(records: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print the table of a measurement.

    Args:
        records: one for each data set, the measured data first.
        console: where to; the terminal, or 140 columns where there is none, if None.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    first = records[0]
    both, controls = "heldout_S1" in first, len(records) > 1
    table = Table(box=SIMPLE_HEAD, title=f"How sparse is {first['data']}?", title_style="bold")
    table.add_column("data", overflow="fold", min_width=16)
    if both:
        table.add_column("rows", no_wrap=True)
    scores = {"S1": "#.3g", "L_norm": "#.3g", "N0": "#.3g", "explained_variance": ".3f"}
    if controls:
        scores["S1_ratio"] = ".2f"
    once = {"lam": ".3g", "atoms_alive": ".0f", "seconds": ".0f"}
    for name in (*scores, *once):
        heading = {"explained_variance": "expl. var.", "S1_ratio": "S1 ratio", "atoms_alive": "atoms alive"}
        table.add_column(heading.get(name, name), justify="right", overflow="fold")
    for record in records:
        style = "bold" if record is first else ""
        cells = [_cell(record, name, form) for name, form in (scores | once).items()]
        table.add_row(record["data"], *(["training"] if both else []), *cells, style=style)
        if both:
            cells = [_cell(record, f"heldout_{name}", form) for name, form in scores.items()]
            table.add_row("", "held out", *cells, style=style, end_section=True)
    console.print(table)
    console.print("\n".join(_notes(first, controls)), highlight=False)


def _notes(record: dict[str, Any], controls: bool) -> Iterator[str]:
    rows = f"{record['num_samples']:,} training rows"
    if "heldout_num_samples" in record:
        rows += f", {record['heldout_num_samples']:,} held out"
    yield f"{rows}; {record['num_atoms']:,} atoms. Lower S1, L_norm and N0 mean sparser."
    if controls:
        yield "S1 ratio: S1 of the data over S1 of the control."
    if "spread" in record:
        yield "±: standard deviation over initial dictionaries."
    if "oracle_S1" in record:
        truth = f"a/2 = {record['half_active']:g}, S1 of the true codes {record['oracle_S1']:.3g}"
        yield f"Known truth: {truth}; true atoms found to a mean cosine of {_cell(record, 'atom_recovery', '.3f')}."


def _cell(record: dict[str, Any], name: str, form: str) -> str:
    if name not in record:
        return ""
    spread = record.get("spread", {}).get(name)
    return f"{record[name]:{form}}".rstrip(".") + (f"±{spread:.1g}" if spread is not None else "")
