"""Where a dictionary comes from, and how it scored."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from sparsecode_pl.utilities.plain import from_json, to_json

# The scores of the card's table, and how they are written.
_COLUMNS = {"S1": "#.3g", "L_norm": "#.3g", "N0": "#.3g", "explained_variance": ".3f"}


@dataclass(frozen=True)
class Card:
    """Where a dictionary comes from, and how it scored: what stands in its `dictionary.json` and its README.md.

    Attributes:
        data: the data's name in tables.
        model: the model that the activations are from, if any.
        layer: its layer, if any.
        source: how the activations were made, of plain types: model, revision, text and so on.
        rows: number of training rows ("train") and of held-out rows ("heldout").
        seed: of the initial dictionary.
        versions: of the packages that made it.
        scores: by the names of a record, such as "S1" and "heldout_S1", at the dictionary's penalty.
        controls: the scores of its controls, by their names, where it was measured beside some.
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
        for name in ("source", "rows", "versions", "scores", "controls"):
            if not isinstance(card.get(name, {}), dict):
                raise ValueError(f"the card's {name} is {card[name]!r}, not a mapping")
        for name in ("scores", "controls"):
            if name in card:
                card[name] = from_json(card[name])
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
        """The measured scores, a line for the data and one for each control."""
        lines = ["| | " + " | ".join(_COLUMNS) + " |", "|---" * (1 + len(_COLUMNS)) + "|"]
        for name, scores in ((f"**{_cell(self.data)}**", self.scores), *self.controls.items()):
            cells = [_scores(scores, score, form) for score, form in _COLUMNS.items()]
            lines.append(f"| {name if scores is self.scores else _cell(name)} | " + " | ".join(cells) + " |")
        held_out = "Training rows / held-out rows. " if "heldout_S1" in self.scores else ""
        beside = "" if self.controls else " It was measured without controls: compare it with some before you trust it."
        return [*lines, "", f"{held_out}Lower S1, L_norm and N0 mean sparser.{beside}"]

    def _origin(self, lam: float) -> list[str]:
        facts: dict[str, Any] = {"penalty": None if math.isnan(lam) else f"{lam:.6g}"}
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


def _scores(scores: Mapping[str, float], name: str, form: str) -> str:
    found = [scores[key] for key in (name, f"heldout_{name}") if key in scores]
    return " / ".join(f"{value:{form}}".rstrip(".") for value in found)
