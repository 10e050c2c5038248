"""What pages are made from: the atoms of the data and of its controls."""

from dataclasses import dataclass
from typing import Protocol

from sparsecode_pl.analysis.atom import Atom


class AtomSource(Protocol):
    """The atoms of one dictionary, asked for one by one."""

    @property
    def label(self) -> str:
        """Name of the data."""
        ...

    @property
    def rows(self) -> str:
        """Which rows were coded, such as "held-out rows"."""
        ...

    @property
    def num_rows(self) -> int:
        """How many rows were coded."""
        ...

    @property
    def num_atoms(self) -> int:
        """Size of the dictionary."""
        ...

    @property
    def lam(self) -> float:
        """Penalty at which they were coded, > 0."""
        ...

    @property
    def edges(self) -> tuple[float, ...]:
        """Edges of the bins of the atoms' histograms, increasing; one more than there are bins."""
        ...

    @property
    def stability_chance(self) -> float | None:
        """Stability of a dictionary that was not trained; None where no stability is known."""
        ...

    def atom(self, index: int) -> Atom:
        """What there is to see of the atom of this number, 0 <= index < num_atoms."""
        ...


@dataclass(frozen=True)
class Subject:
    """Data, or a control, with its atoms.

    Attributes:
        name: as the pages call it.
        source: gives its atoms.
        control_of: name of the subject that it is a control of; None if it is no control.
        facts: what is known of it, as names and values, such as `("S1", "8.2 [8.0, 8.4]")`. Subjects stand side by side
            in a table with a column for each name.
        notes: sentences on how its atoms are to be read.
    """

    name: str
    source: AtomSource
    control_of: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
