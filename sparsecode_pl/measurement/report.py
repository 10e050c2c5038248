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

from sparsecode_pl.data import ROWS
from sparsecode_pl.measurement.autoencoder_notes import autoencoder_notes
from sparsecode_pl.measurement.frontier import draw_frontier
from sparsecode_pl.measurement.loss import LOSS_SCORES
from sparsecode_pl.measurement.loss_table import loss_notes, loss_tables
from sparsecode_pl.measurement.picture import draw, question
from sparsecode_pl.measurement.record import Results, load_results
from sparsecode_pl.scoring import SCORES
from sparsecode_pl.utilities.row_kinds import kinds_of, score_name, telling

# Entries of a record that have a place of their own in the table or below it.
_KNOWN = (
    *(
        "data",
        "model",
        "layer",
        "control_of",
        "arm",
        "error",
        "spread",
        "intervals",
        "frontier",
        *SCORES,
        "num_samples",
        "lam",
    ),
    *("train_lam", "atoms_alive", "num_atoms", "rounds", "seconds", "half_active", "oracle_S1", "atom_recovery"),
    *("num_distinct", "num_types", "num_copies", "token_explained_variance", "matched_recovery", "atom_stability"),
    *("matched_recovery_chance", "atom_stability_chance", "support_precision", "support_recall"),
    *LOSS_SCORES,
)
#: The pictures' files in the run folder.
PICTURE, FRONTIER = "sparsity.png", "frontier.png"

_HEADINGS = {
    "explained_variance": "expl.\nvar.",
    "coding_gap": "gap,\n%",
    "atoms_alive": "atoms\nalive",
    "token_explained_variance": "token\nmeans,\n%",
}
_ROWS_IN_TABLE = {"train": "training\nrows", "heldout": "held-out\nrows", "unseen": "unseen\ntokens"}
# In a narrower terminal intervals are left to the files.
_WIDE = 120
_FORM = "#.3g"


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
    """Write `results.json`, `results.csv` and the pictures, `sparsity.png` and, for several shares, `frontier.png`."""
    results.write()
    draw(results.records, results.folder / PICTURE)
    draw_frontier(results.records, results.folder / FRONTIER)


def show_in_tensorboard(run: Path) -> None:
    """Show the pictures in TensorBoard, in place of earlier ones."""
    pictures = [run / name for name in (PICTURE, FRONTIER) if (run / name).is_file()]
    if pictures:
        for events in run.glob("events.out.tfevents.*"):
            events.unlink()
        with SummaryWriter(str(run)) as writer:
            for path in pictures:
                with Image.open(path) as image:
                    writer.add_image(path.stem, np.asarray(image.convert("RGB")), dataformats="HWC")


def print_table(records: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the table of a measurement.

    S1 is given for each kind of rows, the other scores for the most telling one, see `telling`.

    Args:
        records: one for each data set, measured ones before their controls.
        console: where to print; if None, the terminal, or 140 columns if there is no terminal.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    # Brackets in names and errors are no markup.
    console.print(_scores_table(records, console.width >= _WIDE), markup=False)
    if any("frontier" in record for record in records):
        console.print(_frontier_table(records), markup=False)
    for table in loss_tables(records, console.width >= _WIDE):
        console.print(table, markup=False)
    console.print("\n".join([*_notes(records), *loss_notes(records)]), highlight=False, markup=False)


def _scores_table(records: Sequence[Mapping[str, Any]], wide: bool) -> Table:
    layered = all("layer" in record for record in records)
    kinds, best = kinds_of(records) or ["train"], telling(records)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(question(records)), title_style="bold")
    if layered:
        table.add_column("layer", overflow="fold", min_width=5)
    table.add_column("data", overflow="fold", min_width=16)
    for kind in kinds:
        heading = f"S1\n{_ROWS_IN_TABLE[kind]}"
        table.add_column(heading, justify="right", overflow="fold", min_width=8, no_wrap=kind == best and wide)
    others = {"L_norm": _FORM, "N0": _FORM, "explained_variance": ".3f"}
    ratio = ["S1_ratio"] if _has(records, "control_of") else []
    for _ in ratio:
        table.add_column("S1\nratio", justify="right", overflow="fold", no_wrap=wide)
    shares = {name: ".1%" for name in ("coding_gap", "token_explained_variance") if _has(records, name)}
    once = {"lam": ".3g", "atoms_alive": ".0f"} | ({} if _has(records, "spread") else {"seconds": ".0f"})
    for name in (*others, *shares, *once):
        table.add_column(_HEADINGS.get(name, name), justify="right", overflow="fold")
    for number, record in enumerate(records):
        measured = "control_of" not in record
        last = number + 1 == len(records) or "control_of" not in records[number + 1]
        names = [record["data"]]
        if layered:
            names = [record["layer"], record["model"]] if measured else ["", record["data"]]
        table.add_row(*names, *_cells(record, kinds, best, ratio, others | shares, once, wide), style="bold" * measured)
        if "coding_gap" in record:
            exact = [_cell(record, score_name(kind, "exact_S1"), _FORM, within=wide and kind == best) for kind in kinds]
            exact += [_cell(record, score_name(best, f"exact_{name}"), ".2f", within=wide) for name in ratio]
            exact += [_cell(record, score_name(best, f"exact_{name}"), form) for name, form in others.items()]
            table.add_row(*[""] * layered, "  exact codes", *exact, style="dim")
        if last:
            table.add_section()
    return table


def _cells(
    record: Mapping[str, Any],
    kinds: Sequence[str],
    best: str,
    ratio: Sequence[str],
    others: Mapping[str, str],
    once: Mapping[str, str],
    wide: bool,
) -> list[str]:
    if "error" in record:
        return ["failed"]
    cells = [_cell(record, score_name(kind, "S1"), _FORM, within=wide and kind == best) or "-" for kind in kinds]
    cells += [_cell(record, score_name(best, name), ".2f", within=wide) for name in ratio]
    for name, form in others.items():
        if name == "token_explained_variance":  # of unseen tokens nothing is known by their means
            cells.append(_cell(record, score_name("heldout", name), form) or _cell(record, name, form))
        else:
            cells.append(_cell(record, score_name(best, name), form))
    # At a share of the variance each kind of rows has a penalty of its own.
    once = {score_name(best, name) if score_name(best, name) in record else name: form for name, form in once.items()}
    return cells + [_cell(record, name, form) for name, form in once.items()]


def _frontier_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """S1 of the most telling rows at each share of the variance."""
    best = telling(records)
    levels = [level for record in records for level in record.get("frontier", [])]
    shares = sorted({level["share"] for level in levels})
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(f"S1 of {ROWS[best]} where the codes explain a share of"))
    table.add_column("data", overflow="fold", min_width=16)
    for share in shares:
        table.add_column(f"{share:g}", justify="right", overflow="fold")
    for record in records:
        if "frontier" not in record:
            continue
        found = {level["share"]: level for level in record["frontier"]}
        cells = [_cell(found.get(share, {}), score_name(best, "S1"), _FORM, within=True) for share in shares]
        measured = "control_of" not in record
        table.add_row(record["data"] if measured else f"  {record['data']}", *cells, style="bold" * measured)
    return table


def _notes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for record in records:
        if "error" in record:
            of = f", control of {record['control_of']}," if "control_of" in record else ""
            yield f"{record['data']}{of} failed: {record['error']}"
    scored = [record for record in records if kinds_of([record])]
    if not scored:
        return
    yield from _about_rows(scored)
    kinds, best = kinds_of(scored), telling(scored)
    if any(_lacks(record, kinds) for record in records if "arm" in record and "error" not in record):
        yield "-, in the lines of an autoencoder: at no penalty do the codes match its own on such rows."
    yield f"Lower S1, L_norm and N0 mean sparser.{_others_are_of(kinds, best)}"
    if _has(scored, "control_of"):
        yield f"S1 ratio: S1 of the data over S1 of the control{'' if len(kinds) == 1 else f', of {ROWS[best]}'}."
    if _has(scored, "intervals") and not _has(scored, "spread"):
        units = "token types" if best == "unseen" else "documents, or rows where there are none"
        yield f"[ ]: 95 % interval with the dictionary fixed, from resampling {units}."
    if _has(scored, "coding_gap"):
        yield "Exact codes minimise the objective for these atoms and lam; gap: the coder's excess over the minimum."
    if _has(scored, "token_explained_variance"):
        yield "token means: share of the variance that is known once the token is, of held-out rows if there are any."
        if not any("RepeatedGaussian" in record["data"] for record in scored if "control_of" in record):
            yield "Text repeats its tokens, and repetition alone reads as sparsity: add --controls+=RepeatedGaussian."
    for name in _further(scored[0]):
        values = ", ".join(f"{each['data']} {_all_kinds(each, name)}" for each in scored if name in each)
        yield f"{name}: {values}."
    yield from autoencoder_notes(scored, best)
    if _has(scored, "spread"):
        yield "±: standard deviation over initial dictionaries."
    for record in scored:
        if "atom_stability" in record:
            yield (
                f"Stability of {record['data']}: atoms of other initial dictionaries have a mean cosine of "
                f"{record['atom_stability']:.3f} with their partners (chance {record['atom_stability_chance']:.3f})."
            )
    for truth in scored:
        if "oracle_S1" in truth and "control_of" not in truth:
            yield _known_truth(truth)


def _about_rows(scored: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    record = max(scored, key=lambda one: len(kinds_of([one])))
    kinds = kinds_of([record])
    numbers = [f"{record[score_name(kind, 'num_samples')]:,}" for kind in kinds]
    if len(kinds) == 1:
        rows = f"{numbers[0]} training rows"
    else:
        names = " / ".join(ROWS[kind] for kind in kinds)
        rows = f"{names[0].upper()}{names[1:]}: {' / '.join(numbers)}"
    alike = all(other["num_samples"] == record["num_samples"] for other in scored)
    atoms = " to ".join(f"{number:,}" for number in sorted({min(_atoms(scored)), max(_atoms(scored))}))
    repeated = ""
    if "num_types" in record:
        repeated = f"; {record['num_types']:,} token types, {record['num_distinct']:,} different rows in all"
    elif "num_distinct" in record and record["num_distinct"] < sum(
        record.get(score_name(kind, "num_samples"), 0) for kind in kinds
    ):
        repeated = f"; {record['num_distinct']:,} different rows in all"
    yield f"{rows}{'' if alike else ' and others'}{repeated}; {atoms} atoms."
    if any(_lacks(other, kinds) for other in scored if "arm" not in other):
        yield "-: there are no such rows. Those that equal training rows are left out, and in RepeatedGaussian all do."
    elif record.get("num_copies"):
        yield f"{record['num_copies']:,} rows are left out, because they equal training rows."
    if "heldout_seen_share" in record:
        if record["heldout_seen_share"] == 0:
            yield "Held-out rows are unseen tokens: no row of their token types was trained on."
        else:
            yield (
                f"Of the rows in held-out documents, {record['heldout_seen_share']:.0%} are of tokens that were "
                "trained on."
            )


def _lacks(record: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    """Whether a record has no scores of some of these kinds of rows."""
    return len(kinds_of([record])) < len(kinds)


def _others_are_of(kinds: Sequence[str], best: str) -> str:
    return "" if len(kinds) == 1 else f" L_norm, N0 and explained variance are those of {ROWS[best]}."


def _known_truth(record: Mapping[str, Any]) -> str:
    half = f"a/2 = {record['half_active']:g}, " if "half_active" in record else ""
    known = f"{half}S1 of the true codes {record['oracle_S1']:.3g}"
    found = f"mean cosine of the true atoms with the learnt ones {_cell(record, 'atom_recovery', '.3f')}"
    if "matched_recovery" in record:
        found += (
            f", one to one {_cell(record, 'matched_recovery', '.3f')} "
            f"(chance {_cell(record, 'matched_recovery_chance', '.3f')})"
        )
    if "support_precision" in record:
        found += (
            f"; of the active atoms {record['support_precision']:.0%} are truly active, and of the true ones "
            f"{record['support_recall']:.0%} are found"
        )
    return f"Known truth of {record['data']}: {known}; {found}."


def _has(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(name in record for record in records)


def _further(record: Mapping[str, Any]) -> list[str]:
    """Names of the values of further evaluations."""
    known = {*_KNOWN, *(f"exact_{name}" for name in SCORES), "coding_gap", "exact_duality_gap"}
    prefixes = tuple(f"{kind}_" for kind in ROWS if kind != "train")
    return [name for name in record if name not in known and not name.startswith(prefixes) and name[-6:] != "_ratio"]


def _atoms(records: Sequence[Mapping[str, Any]]) -> list[int]:
    return [record["num_atoms"] for record in records]


def _all_kinds(record: Mapping[str, Any], name: str) -> str:
    """The figures of all kinds of rows."""
    return " / ".join(filter(None, (_cell(record, score_name(kind, name), ".4g") for kind in ROWS)))


def _cell(record: Mapping[str, Any], name: str, form: str, *, within: bool = False) -> str:
    """A figure, with its spread over initial dictionaries and, if wanted, its interval."""
    if name not in record:
        return ""
    spread = record.get("spread", {}).get(name)
    cell = f"{record[name]:{form}}".rstrip(".")
    if spread is not None:
        cell += f"±{spread:{form if form[-1] == '%' else '.1g'}}"
    # One of the two is enough in a cell: with several fits, the spread.
    interval = record.get("intervals", {}).get(name) if within and spread is None else None
    if interval is not None:
        low, high = (f"{end:{form}}".rstrip(".") for end in interval)
        cell += f" [{low}, {high}]"
    return cell.replace("%", "")  # the heading has it
