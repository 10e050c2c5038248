"""Where a dictionary comes from, and how it scored."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, get_type_hints

from sparsecode_pl.utilities.plain import check_type, from_json, to_json
from sparsecode_pl.utilities.row_kinds import ROWS, kinds_of, score_name, telling

# The scores of the card's table beside S1, and how they are written.
_OTHERS = {"L_norm": "#.3g", "N0": "#.3g", "explained_variance": ".3f"}
_FORM = "#.3g"
# What JSON has null for, in place of NaN.
_Scores = dict[str, float | None]
_Intervals = dict[str, tuple[float | None, float | None]]
_WITH_NULL = {
    "scores": _Scores,
    "controls": dict[str, _Scores],
    "intervals": _Intervals,
    "control_intervals": dict[str, _Intervals],
}


@dataclass(frozen=True)
class Card:
    """Where a dictionary comes from, and how it scored: what stands in its `dictionary.json` and its README.md.

    Attributes:
        data: the data's name in tables.
        model: the model that the activations are from, if any.
        layer: its layer, if any.
        source: how the activations were made, of plain types: model, revision, text and so on.
        rows: number of rows of each kind: "train", "heldout" and "unseen".
        seed: of the initial dictionary.
        versions: of the packages that made it.
        scores: by the names of a record, such as "S1", "heldout_S1" and "unseen_S1". They are those at the
            dictionary's penalty, unless each kind of rows has a penalty of its own, such as "unseen_lam".
        controls: the scores of its controls, by their names, where it was measured beside some.
        intervals: 95 % intervals of the scores, lower and upper end, as far as they were taken.
        control_intervals: those of the controls, by their names, also of ratios such as "S1_ratio".
        split: the arguments of the data that decide which rows are of which kind.
    """

    data: str = ""
    model: str | None = None
    layer: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    controls: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    control_intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The card as JSON can hold it; NaN becomes null."""
        content: dict[str, Any] = to_json(asdict(self))
        return content

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Self:
        """A card from what `plain` gave. Entries that are not known here are left out.

        Raises:
            ValueError: an entry is of another kind than it must be.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"the card is {content!r}, not a mapping")
        known = {entry.name for entry in fields(cls)}
        card = {name: value for name, value in content.items() if name in known}
        types = get_type_hints(cls) | _WITH_NULL
        for name, value in card.items():
            check_type(f"the card's {name}", value, types[name])
        for name in ("scores", "controls"):
            if name in card:
                card[name] = from_json(card[name])
        if "intervals" in card:
            card["intervals"] = _intervals(card["intervals"])
        if "control_intervals" in card:
            card["control_intervals"] = {name: _intervals(each) for name, each in card["control_intervals"].items()}
        return cls(**card)

    def text(self, num_atoms: int, d_model: int, lam: float, name: str = "FOLDER_OR_HUB_NAME") -> str:
        """The card as Markdown: a table of the scores, three lines that use the dictionary, and its origin.

        Args:
            num_atoms: m.
            d_model: d.
            lam: the dictionary's penalty; NaN if it has none.
            name: what `from_pretrained` is to be given.
        """
        lines = [
            "---",
            "library_name: sparsecode-pl",
            "tags: [interpretability, sparse-coding, dictionary-learning]",
            "---",
            "",
            f"# Sparse dictionary{f' of {_cell(self.data)}' if self.data else ''}",
            "",
            f"{num_atoms:,} atoms of width {d_model:,}, learnt by sparse coding with "
            "[sparsecode-pl](https://arxiv.org/abs/2310.07837).",
            "",
            "```python",
            "from sparsecode_pl import Dictionary",
            f'dictionary = Dictionary.from_pretrained("{name}")',
            f"codes = dictionary.encode(x)  # x: activations (n, {d_model}); codes: sparse CSR (n, {num_atoms})",
            "```",
            "",
        ]
        if self.scores:
            lines += [*self._table(), ""]
        lines += [*self._origin(lam), ""]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """The measured scores, a line for the data and one for each control.

        S1 stands there for each kind of rows, the other scores for the kind that is most telling of the data.
        """
        kinds, best = kinds_of([self.scores, *self.controls.values()]) or ["train"], telling([self.scores])
        headings = [*(f"S1, {ROWS[kind]}" for kind in kinds), *_OTHERS]
        lines = ["| | " + " | ".join(headings) + " |", "|---" * (1 + len(headings)) + "|"]
        found = [(f"**{_cell(self.data)}**", self.scores, self.intervals)]
        found += [(_cell(name), each, self.control_intervals.get(name, {})) for name, each in self.controls.items()]
        for name, scores, intervals in found:
            cells = [_score(scores, score_name(kind, "S1"), _FORM, intervals if kind == best else {}) for kind in kinds]
            cells += [_score(scores, score_name(best, other), form, {}) for other, form in _OTHERS.items()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        notes = ["Lower S1, L_norm and N0 mean sparser."]
        if len(kinds) > 1:
            notes.append(f"L_norm, N0 and explained_variance are those of {ROWS[best]}.")
        if any(score_name(best, "S1") in intervals for _, _, intervals in found):
            notes.append("[ ]: 95 % interval with the dictionary fixed.")
        if not self.controls:
            notes.append("It was measured without controls: compare it with some before you trust it.")
        return [*lines, "", " ".join(notes)]

    def _origin(self, lam: float) -> list[str]:
        facts: dict[str, Any] = {"penalty": None if math.isnan(lam) else f"{lam:.6g}"}
        own = {kind: score_name(kind, "lam") for kind in ROWS if kind != "train"}  # at a share of the variance
        facts |= {f"penalty, {ROWS[kind]}": f"{self.scores[n]:.6g}" for kind, n in own.items() if n in self.scores}
        facts |= {"model": self.model, "layer": self.layer, "seed": self.seed}
        facts |= {f"{rows} rows": f"{number:,}" for rows, number in self.rows.items()}
        facts |= {f"source: {name}": value for name, value in self.source.items()}
        facts |= dict(self.versions)
        return ["| | |", "|---|---|"] + [
            f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items() if value is not None
        ]


def _cell(value: Any) -> str:
    """Text that stays within its cell of a Markdown table, and is no markup."""
    text = " ".join(str(value).split())
    for mark in "\\|<>`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def _score(scores: Mapping[str, float], name: str, form: str, intervals: Mapping[str, tuple[float, float]]) -> str:
    """A score, with its interval if it has one; empty if there is no such score."""
    if name not in scores:
        return ""
    value, *ends = (f"{number:{form}}".rstrip(".") for number in (scores[name], *intervals.get(name, ())))
    return f"{value} [{', '.join(ends)}]" if ends else value


def _intervals(content: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Intervals from JSON, with NaN in place of null."""
    return {name: (from_json(low), from_json(high)) for name, (low, high) in content.items()}
