"""The table of what a model loses in each arm."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sparsecode_pl.measurement.loss import EXACT, read_loss
from sparsecode_pl.measurement.record import Record

_HEADINGS = {
    "N0": "N0",
    "cross_entropy": "cross-\nentropy",
    "kl": "KL",
    "cosine": "cosine of\nthe output",
    "recovered": "recovered,\nagainst mean",
    "zero_recovered": "recovered,\nagainst zero",
}
_COLUMNS = {
    "causal": ("N0", "cross_entropy", "kl", "recovered", "zero_recovered"),
    "encoder": ("N0", "cosine", "recovered", "zero_recovered"),
}
_ARMS = {
    "clean": "the activations themselves",
    "dictionary": "this dictionary",
    EXACT: "this dictionary, exact codes",
    "mean": "their mean",
    "zero": "zero",
}

# A measured record and its controls, each with the content of its file.
_Group = list[tuple[Mapping[str, Any], dict[str, Any]]]
# Figures and their intervals, by name.
_Figures = tuple[Mapping[str, float], Mapping[str, Sequence[float]]]


def loss_tables(records: Sequence[Mapping[str, Any]], wide: bool) -> Iterator[Table]:
    """A table for language models, and one for encoders, as far as there are any.

    Args:
        records: one for each data set, measured ones before their controls.
        wide: whether there is room for intervals.
    """
    groups = _groups(records)
    for kind in _COLUMNS:
        of_kind = [group for group in groups if group[0][1]["kind"] == kind]
        if of_kind:
            yield _table(of_kind, kind, wide)


def loss_notes(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the tables are of."""
    found = [content for group in _groups(records) for _, content in group]
    if not found:
        return
    of = {
        f"{each['documents']:,} {'held-out documents' if each['heldout'] else 'documents, none of which is held out'} "
        f"({each['tokens']:,} tokens)"
        for each in found
    }
    several = any(len(getattr(record, "fits", ())) > 1 for record in records)
    yield (
        f"Model's output with a layer's activations replaced: {', '.join(sorted(of))}"
        f"{', first initial dictionary' if several else ''}. Recovered: 1 where that costs nothing, 0 where it costs "
        "as much as their mean, or zero, in their place; -: these cost nothing that can be told from chance."
    )


def _groups(records: Sequence[Mapping[str, Any]]) -> list[_Group]:
    groups: list[_Group] = []
    for record in records:
        if not isinstance(record, Record) or record.error is not None or record.fits[0].folder is None:
            continue
        content = read_loss(record.fits[0].folder)
        if content is None:
            continue
        if record.control_of is None:
            groups.append([(record, content)])
        elif groups and groups[-1][0][0]["data"] == record.control_of:
            groups[-1].append((record, content))
    return groups


def _table(groups: Sequence[_Group], kind: str, wide: bool) -> Table:
    what = "loses" if kind == "causal" else "changes its output by"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(f"What the model {what}"), title_style="bold")
    table.add_column("data", overflow="fold", min_width=12)
    table.add_column("in place of the activations", overflow="fold", min_width=16)
    for name in _COLUMNS[kind]:
        table.add_column(_HEADINGS[name], justify="right", overflow="fold", no_wrap=wide)
    for group in groups:
        for number, (label, figures) in enumerate(_rows(group)):
            cells = [_cell(figures, name, wide) for name in _COLUMNS[kind]]
            own = label == _ARMS["dictionary"]
            table.add_row(group[0][0]["data"] if number == 0 else "", label, *cells, style="bold" if own else None)
        table.add_section()
    return table


def _rows(group: _Group) -> Iterator[tuple[str, _Figures]]:
    """The arms of the measured dictionary, with those of its controls after its own."""
    _, content = group[0]
    own = [arm for arm in content["arms"] if arm in ("clean", "dictionary", EXACT)]
    for arm in own:
        yield _ARMS[arm], _figures(content, arm)
    for record, control in group[1:]:
        yield record["data"] + ("" if "arm" in record else " (control)"), _figures(control, "dictionary")
    for arm in content["arms"]:
        if arm not in own:
            yield _ARMS.get(arm, arm), _figures(content, arm)


def _figures(content: Mapping[str, Any], arm: str) -> _Figures:
    nonzero = content.get("N0", {}).get(arm)
    return content["arms"][arm] | ({} if nonzero is None else {"N0": nonzero}), content["intervals"][arm]


def _cell(figures: _Figures, name: str, wide: bool) -> str:
    """A figure, with its interval if it is a share of the loss that is neither 0 nor 1 by definition."""
    values, intervals = figures
    value = values.get(name)
    if value is None:
        return ""
    if math.isnan(value):
        return "-"
    if name == "N0":
        return f"{value:.1f}"
    cell = f"{value:.3f}"
    low, high = intervals.get(name, (math.nan, math.nan))
    if wide and name.endswith("recovered") and low < high:
        cell += f" [{low:.3f}, {high:.3f}]"
    return cell
