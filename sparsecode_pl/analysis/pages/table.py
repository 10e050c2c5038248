"""The table of atoms: what the browser searches and sorts, kept as compact text."""

import json
from array import array
from collections.abc import Iterable
from itertools import islice
from statistics import median

from sparsecode_pl.analysis.atom import Atom, Example
from sparsecode_pl.analysis.pages.numbers import percent
from sparsecode_pl.analysis.pages.passage import word
from sparsecode_pl.analysis.pages.places import OWN_FILE
from sparsecode_pl.analysis.pages.visible import visible

#: Names of the columns, in the order that pages.js reads them.
COLUMNS = (
    *("index", "frequency", "mean", "largest", "purity", "purity_bound", "stability"),
    *("token", "strongest", "words"),
)
_STRONGEST = 6  # words shown of an atom
_READ = 5  # examples whose text is searched
_LONG, _SHORT = 400, 120  # characters of an atom's text that are searched, with few atoms and with many
# What ends a script, or a line of one, is written as an escape: hostile text stays text.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def to_script(value: object) -> str:
    r"""JSON that is safe inside a script element, and as a script.

    Example:
        >>> print(to_script(["</script>"]))
        ["\u003c/script\u003e"]
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


class Table:
    """Collects a line for each atom.

    Args:
        num_atoms: size of the dictionary.
    """

    def __init__(self, num_atoms: int) -> None:
        self._room = _LONG if num_atoms <= OWN_FILE else _SHORT
        self._lines: list[str] = []
        self._names: list[str] = []
        self._frequency, self._purity, self._stability = array("d"), array("d"), array("d")
        self.num_dead = 0

    def add(self, atom: Atom) -> None:
        """Add the next atom."""
        strongest = _strongest(atom)
        line = [
            atom.index,
            *(_rounded(value) for value in (atom.frequency, atom.mean, atom.largest)),
            *(_rounded(value) for value in (atom.purity, atom.purity_bound, atom.stability)),
            None if atom.token is None else _bare(atom.token),
            strongest,
            _words(atom.top[:_READ], self._room),
        ]
        self._lines.append(to_script(line))
        dead = atom.count == 0
        self._names.append(to_script(None if dead else _bare(atom.token)))
        if dead:
            self.num_dead += 1
            return
        self._frequency.append(atom.frequency)
        for values, value in ((self._purity, atom.purity), (self._stability, atom.stability)):
            if value is not None:
                values.append(value)

    def lines(self) -> str:
        """The rows as a list in JSON, safe inside a script element; see `COLUMNS`."""
        return "[" + ",\n".join(self._lines) + "]"

    def names(self) -> str:
        """The atoms' tokens as a list in JSON, safe as a script; null for atoms that are never active."""
        return "[" + ",".join(self._names) + "]"

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the atoms have in common, for the table of subjects."""
        facts = [("active atoms", f"{len(self._frequency):,} of {len(self._lines):,}")]
        if self._frequency:
            facts.append(("median frequency", percent(median(self._frequency))))
        if self._purity:
            facts.append(("median purity", f"{median(self._purity):.2f}"))
        if self._stability:
            facts.append(("median stability", f"{median(self._stability):.2f}"))
        return tuple(facts)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _bare(text: str | None) -> str:
    """A token without the space before it; "" without a token."""
    return "" if text is None else visible(text.strip() or text)


def _strongest(atom: Atom) -> list[str]:
    """The different tokens of the strongest examples, without regard to case and spaces."""
    words = [_bare(text) for text in map(word, atom.top) if text is not None]
    different: dict[str, str] = {}
    for text in words:
        different.setdefault(text.lower(), text)
    return list(islice(different.values(), _STRONGEST))


def _words(examples: Iterable[Example], room: int) -> str:
    """The different words of the examples' text, in lower case."""
    texts = "  ".join("".join(token.text for token in example.tokens) for example in examples)
    return visible(" ".join(dict.fromkeys(texts.lower().split())))[:room] if texts else ""
