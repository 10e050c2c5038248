"""The numbers of a measurement as a table and as files."""

import csv
import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
        console: where to.
    """
    heldout = "heldout_S1" in records[0]
    table = Table(
        title="Sparsity: " + ("training rows / held-out rows" if heldout else "training rows"),
        caption=_caption(records, heldout),
        caption_justify="left",
    )
    table.add_column("data", overflow="fold")
    for name in ("S1", "L_norm", "N0", "expl. var.", "lam", "alive", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(records) > 1:
        table.add_column("data's S1 / this", justify="right")
    truth = [name for name in ("half_active", "oracle_S1", "atom_recovery") if any(name in one for one in records)]
    for name in truth:
        table.add_column({"half_active": "a/2", "oracle_S1": "oracle", "atom_recovery": "recovery"}[name])
    for record in records:
        cells = [_pair(record, name, ".3g") for name in ("S1", "L_norm", "N0")]
        cells.append(_pair(record, "explained_variance", ".3f"))
        cells.append(_cell(record, "lam", ".3g"))
        cells.append(f"{record['atoms_alive']:.0f}/{record['num_atoms']:.0f}")
        cells.append(_cell(record, "seconds", ".0f"))
        if len(records) > 1:
            cells.append(_pair(record, "S1_ratio", ".2f"))
        cells += [_cell(record, name, ".3g") for name in truth]
        table.add_row(record["data"], *cells, style="bold" if record is records[0] else "")
    (console or Console()).print(table)


def _caption(records: list[dict[str, Any]], heldout: bool) -> str:
    rows = f"{records[0]['num_samples']:,} training rows"
    if heldout:
        rows += f", {records[0]['heldout_num_samples']:,} held out"
    spread = "; ± is the standard deviation over initial dictionaries" if "spread" in records[0] else ""
    return f"{rows}. Lower S1, L_norm and N0 mean sparser{spread}."


def _pair(record: dict[str, Any], name: str, form: str) -> str:
    return " / ".join(_cell(record, key, form) for key in (name, f"heldout_{name}") if key in record)


def _cell(record: dict[str, Any], name: str, form: str) -> str:
    if name not in record:
        return ""
    spread = record.get("spread", {}).get(name)
    return f"{record[name]:{form}}" + (f"±{spread:.1g}" if spread is not None else "")
