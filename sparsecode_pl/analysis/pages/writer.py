"""Writes the pages: an index and a page for each atom, of the data and of each control."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from sparsecode_pl.analysis.atom import Atom, Example
from sparsecode_pl.analysis.pages import folder as folders
from sparsecode_pl.analysis.pages.environment import environment
from sparsecode_pl.analysis.pages.histogram import Histogram
from sparsecode_pl.analysis.pages.numbers import span
from sparsecode_pl.analysis.pages.passage import Passages
from sparsecode_pl.analysis.pages.places import Places
from sparsecode_pl.analysis.pages.subject import AtomSource, Subject
from sparsecode_pl.analysis.pages.table import COLUMNS, Table, to_script
from sparsecode_pl.analysis.pages.visible import visible
from sparsecode_pl.utilities.progress import Progress, titled

_STATIC = ("pages.css", "pages.js")


def write_pages(
    folder: str | Path,
    subjects: Sequence[Subject],
    title: str,
    picture: str | None = None,
    summary: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the pages of dictionaries side by side; they open from disk, in any browser, without a network.

    Atoms are asked for one by one, in order, once each; of each, a line of the index is kept.

    Args:
        folder: made if need be. Pages of an earlier time in it are replaced.
        subjects: the data, then its controls; or several layers, each with its controls. The first one is what the
            folder opens with.
        title: of the whole.
        picture: SVG of the run, a whole file of that format, from a source that is trusted.
        summary: facts of the run, as names and values.

    Returns:
        The page to open.

    Raises:
        FileExistsError: the folder holds something else than pages.
        ValueError: there are no subjects, two have one name, one is the control of none, or a dictionary has no atoms.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    _check(subjects)
    names = [subject.name for subject in subjects]
    folders.begin(folder, title, names)
    for name in _STATIC:
        (folder / name).write_bytes(files(__package__).joinpath("static", name).read_bytes())
    if picture is not None:
        _write(folder / "picture.svg", picture)
    templates = environment()
    common = {"title": title, "picture": picture is not None, "summary": summary}
    sections = [
        _Section(subject, folders.subject_folder(number, subject.name) if number else "")
        for number, subject in enumerate(subjects)
    ]
    for section in sections:
        _write_atoms(folder, section, sections, templates.get_template("atom.html"), common)
    comparison = _comparison(sections)
    for section in reversed(sections):  # the folder opens with the first
        page = _index(templates.get_template("index.html"), section, sections, comparison, common)
        _write(folder / section.folder / "index.html", page)
    folders.finish(folder, title, names)
    return folder / "index.html"


@dataclass
class _Section:
    """A subject's part of the folder.

    Attributes:
        subject: the subject.
        folder: of its pages, "" for the folder of the whole.
    """

    subject: Subject
    folder: str

    def __post_init__(self) -> None:
        self.table = Table(self.subject.source.num_atoms)
        self.places = Places(self.subject.source.num_atoms)

    @property
    def up(self) -> str:
        """The way from its index to the folder of the whole."""
        return "../" if self.folder else ""

    @property
    def href(self) -> str:
        """Its index, from the folder of the whole."""
        return f"{self.folder}/index.html" if self.folder else "index.html"


def _check(subjects: Sequence[Subject]) -> None:
    names = [subject.name for subject in subjects]
    if not names:
        raise ValueError("subjects is empty: give at least one")
    for number, subject in enumerate(subjects):
        if subject.name in names[:number]:
            raise ValueError(f"subjects has {subject.name!r} twice: give each a name of its own")
        if subject.control_of is not None and subject.control_of not in names[:number]:
            raise ValueError(
                f"subject {subject.name!r} is a control of {subject.control_of!r}: give that one before it"
            )
        if subject.source.num_atoms < 1:
            raise ValueError(
                f"num_atoms of subject {subject.name!r} is {subject.source.num_atoms}: give at least one atom"
            )


def _write_atoms(
    folder: Path, section: _Section, sections: Sequence[_Section], template: Template, common: dict[str, Any]
) -> None:
    source, places = section.subject.source, section.places
    target = folder / section.folder / "atoms"
    target.mkdir(parents=True)
    views = _Views(source, places)
    fixed = _fixed(section, sections, "../" + section.up) | common
    with titled(section.subject.name), Progress("pages", source.num_atoms, "atoms") as progress:
        for indices in places.files():
            atoms = []
            for index in indices:
                atom = source.atom(index)
                section.table.add(atom)
                atoms.append(views.view(atom))
            _write(target / places.file(indices[0]), template.render(fixed, atoms=atoms))
            progress.advance(len(indices))
    _write(target.parent / "names.js", f"globalThis.atomNames={section.table.names()};\n")


def _index(
    template: Template,
    section: _Section,
    sections: Sequence[_Section],
    comparison: dict[str, Any],
    common: dict[str, Any],
) -> str:
    facts = {
        "columns": list(COLUMNS),
        "size": section.places.size,
        "width": section.places.width,
        "rows": section.subject.source.num_rows,
    }
    return template.render(
        _fixed(section, sections, section.up) | common,
        comparison=comparison,
        dead=section.table.num_dead,
        facts=Markup(to_script(facts)),  # noqa: S704  escaped
        lines=Markup(section.table.lines()),  # noqa: S704  escaped
        first=section.places.link(0),
    )


def _fixed(section: _Section, sections: Sequence[_Section], up: str) -> dict[str, Any]:
    """What all pages of a subject have in common."""
    source = section.subject.source
    return {
        "up": up,
        "subject": section.subject,
        "label": source.label,
        "rows": source.rows,
        "num_rows": source.num_rows,
        "num_atoms": source.num_atoms,
        "lam": source.lam,
        "chance": source.stability_chance,
        "links": [
            {
                "name": other.subject.name,
                "href": other.href,
                "control_of": other.subject.control_of,
                "here": other is section,
            }
            for other in sections
        ],
    }


def _comparison(sections: Sequence[_Section]) -> dict[str, Any]:
    """The facts of all subjects, as a table with a row for each."""
    given = [dict(section.subject.facts) for section in sections]
    found = [dict(section.table.facts()) for section in sections]
    columns = list(dict.fromkeys(name for known in (*given, *found) for name in known))
    facts = [first | second for first, second in zip(given, found, strict=True)]
    return {"columns": columns, "cells": [[known.get(name, "") for name in columns] for known in facts]}


class _Views:
    """Makes what the template shows of an atom."""

    def __init__(self, source: AtomSource, places: Places) -> None:
        self._places, self._passages = places, Passages()
        self._histogram = Histogram(source.edges)
        self._last = source.num_atoms - 1

    def view(self, atom: Atom) -> dict[str, Any]:
        """The atom, with the parts of the page that are made here."""
        groups = [("Strongest", "", self._examples(atom.top, atom.largest))]
        groups += [
            (
                f"Quantiles {band.low:.2g} to {band.high:.2g}",
                "of its activations, by strength",
                self._examples(band.examples, atom.largest),
            )
            for band in atom.bands
        ]
        shown = [example for group in (atom.top, *(band.examples for band in atom.bands)) for example in group]
        return {
            "atom": atom,
            "name": None if atom.token is None else visible(atom.token.strip() or atom.token),
            "purity": None if atom.purity is None else span(atom.purity, atom.purity_bound or atom.purity),
            "histogram": self._histogram.draw(atom.histogram),
            "groups": [group for group in groups if group[2]],
            "kind": _kind(shown),
            "exact": any(example.exact is not None for example in shown),
            "trained": any(example.trained for example in shown),
            "previous": self._places.link(atom.index - 1) if atom.index > 0 else None,
            "next": self._places.link(atom.index + 1) if atom.index < self._last else None,
            "nearest": [(near, self._places.link(near.atom)) for near in atom.nearest],
            "partners": [(partner, self._places.link(partner.atom)) for partner in atom.partners],
        }

    def _examples(self, examples: Sequence[Example], largest: float) -> list[tuple[Example, Markup]]:
        return [
            (example, self._passages.text(example, largest) if example.tokens else Markup("")) for example in examples
        ]


def _kind(examples: Sequence[Example]) -> str:
    """How examples are laid out: "text" one below the other; "words" and "numbers" beside each other."""
    lengths = [len(example.tokens) for example in examples]
    if not any(lengths):
        return "numbers"
    return "words" if max(lengths) == 1 else "text"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
