"""The numbers of a measurement as a table and as files."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from sparsecode_pl.measurement.picture import draw, question
from sparsecode_pl.measurement.record import Results, load_results
from sparsecode_pl.scoring import SCORES

# Entries of a record that have a place of their own in the table or below it.
_KNOWN = (
    *("data", "model", "layer", "control_of", "error", "spread", *SCORES, "num_samples", "lam", "train_lam"),
    *("atoms_alive", "num_atoms", "rounds", "seconds", "half_active", "oracle_S1", "atom_recovery"),
)
#: The picture's file in the run folder.
PICTURE = "sparsity.png"

_HEADINGS = {
    "explained_variance": "expl. var.",
    "S1_ratio": "S1 ratio",
    "coding_gap": "gap, %",
    "atoms_alive": "atoms\nalive",
}


def report(run: str | Path) -> Results:
    """Make the table, the picture and the files of a run again, from its records alone.

    Args:
        run: the run folder.

    Returns:
        The results in the folder.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: they are damaged, or of a newer format.
        OSError: the files cannot be written.
    """
    results = load_results(run)
    write_report(results)
    show_in_tensorboard(results.folder)
    print_table(results.records)
    if not results.complete:
        rank_zero_info(f"The run is incomplete: to make the missing fits, resume {results.folder}")
    return results


def write_report(results: Results) -> None:
    """Write `results.json`, `results.csv` and the picture, `sparsity.png`."""
    results.write()
    draw(results.records, results.folder / PICTURE)


def show_in_tensorboard(run: Path) -> None:
    """Show the picture in TensorBoard, in place of an earlier one."""
    picture = run / PICTURE
    if picture.is_file():
        for events in run.glob("events.out.tfevents.*"):
            events.unlink()
        with SummaryWriter(str(run)) as writer, Image.open(picture) as image:
            writer.add_image("sparsity", np.asarray(image.convert("RGB")), dataformats="HWC")


def print_table(records: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the table of a measurement.

    Args:
        records: one for each data set, measured ones before their controls.
        console: where to print; if None, the terminal, or 140 columns if there is no terminal.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    layered = all("layer" in record for record in records)
    controls = any("control_of" in record for record in records)
    exact = any("coding_gap" in record for record in records)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(question(records)), title_style="bold")
    if layered:
        table.add_column("layer", overflow="fold", min_width=5)
    table.add_column("data", overflow="fold", min_width=16)
    scores = {"S1": "#.3g", "L_norm": "#.3g", "N0": "#.3g", "explained_variance": ".3f"}
    if controls:
        scores["S1_ratio"] = ".2f"
    gaps = {"coding_gap": ".1%"} if exact else {}
    once = {"lam": ".3g", "atoms_alive": ".0f", "seconds": ".0f"}
    for name in (*scores, *gaps, *once):
        table.add_column(_HEADINGS.get(name, name), justify="right", overflow="fold")
    for number, record in enumerate(records):
        measured = "control_of" not in record
        last = number + 1 == len(records) or "control_of" not in records[number + 1]
        names = [record["data"]]
        if layered:
            names = [record["layer"], record["model"]] if measured else ["", record["data"]]
        if "error" in record:
            cells = ["failed"]
        else:
            cells = [_both(record, name, form) for name, form in (scores | gaps).items()]
            cells += [_cell(record, name, form) for name, form in once.items()]
        table.add_row(*names, *cells, style="bold" if measured else "")
        if "coding_gap" in record:
            cells = [_both(record, f"exact_{name}", form) for name, form in scores.items()]
            table.add_row(*[""] * layered, "  exact codes", *cells, style="dim")
        if last:
            table.add_section()
    console.print(table, markup=False)  # brackets in names and errors are no markup
    console.print("\n".join(_notes(records, controls)), highlight=False, markup=False)


def _notes(records: Sequence[Mapping[str, Any]], controls: bool) -> Iterator[str]:
    for record in records:
        if "error" in record:
            of = f", control of {record['control_of']}," if "control_of" in record else ""
            yield f"{record['data']}{of} failed: {record['error']}"
    scored = [record for record in records if "S1" in record]
    if not scored:
        return
    record = scored[0]
    rows = f"{record['num_samples']:,} training rows"
    if "heldout_num_samples" in record:
        rows = f"Training rows / held-out rows: {record['num_samples']:,} / {record['heldout_num_samples']:,}"
    alike = all(other["num_samples"] == record["num_samples"] for other in scored)
    atoms = " to ".join(f"{number:,}" for number in sorted({min(_atoms(scored)), max(_atoms(scored))}))
    yield f"{rows}{'' if alike else ' and others'}; {atoms} atoms. Lower S1, L_norm and N0 mean sparser."
    if controls:
        yield "S1 ratio: S1 of the data over S1 of the control."
    if "coding_gap" in record:
        yield "Exact codes minimise the objective for these atoms and lam; gap: the coder's excess over the minimum."
    for name in _further(record):
        values = ", ".join(f"{each['data']} {_both(each, name, '.4g')}" for each in scored if name in each)
        yield f"{name}: {values}."
    if "spread" in record:
        yield "±: standard deviation over initial dictionaries."
    for truth in scored:
        if "oracle_S1" in truth:
            known = f"a/2 = {truth['half_active']:g}, S1 of the true codes {truth['oracle_S1']:.3g}"
            found = f"mean cosine of the true atoms with the learnt ones {_cell(truth, 'atom_recovery', '.3f')}"
            yield f"Known truth of {truth['data']}: {known}; {found}."


def _further(record: Mapping[str, Any]) -> list[str]:
    """Names of the values of further evaluations."""
    known = {*_KNOWN, *(f"exact_{name}" for name in SCORES), "coding_gap", "exact_duality_gap"}
    return [name for name in record if name not in known and not name.startswith("heldout_") and name[-6:] != "_ratio"]


def _atoms(records: Sequence[Mapping[str, Any]]) -> list[int]:
    return [record["num_atoms"] for record in records]


def _both(record: Mapping[str, Any], name: str, form: str) -> str:
    """The figures of the training rows and, if there are any, of the held-out rows."""
    return " / ".join(filter(None, (_cell(record, name, form), _cell(record, f"heldout_{name}", form))))


def _cell(record: Mapping[str, Any], name: str, form: str) -> str:
    if name not in record:
        return ""
    spread = record.get("spread", {}).get(name)
    both = f"{record[name]:{form}}".rstrip(".")
    if spread is not None:
        both += f"±{spread:{form if form[-1] == '%' else '.1g'}}"
    return both.replace("%", "")  # the heading has it
