"""The data and controls of a run, made again from its settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from sparsecode_pl.cli.lightning import SparseCodingParser
from sparsecode_pl.data import ActivationDataModule, Control, available_plugins
from sparsecode_pl.measurement import Record, Results
from sparsecode_pl.measurement.record import RESULTS
from sparsecode_pl.measurement.subjects import Subject, prepare
from sparsecode_pl.module import SparseCodingModule

_GIVE_DATA = "give the data by --data"
_NAMES = ("data", "also", "controls")


def find_run(path: Path) -> Path | None:
    """The run in a folder: the folder itself, or the newest numbered run in it; None if there is none."""
    if (path / RESULTS).is_file():
        return path
    runs = [run for run in path.glob("version_*") if run.name[8:].isdigit() and (run / RESULTS).is_file()]
    return max(runs, key=lambda run: int(run.name[8:]), default=None)


def subjects_again(
    results: Results, given: ActivationDataModule | None, layer: str | None, controls: bool | list[str]
) -> list[tuple[Record, Subject]]:
    """The records of a run with dictionaries, each with the rows that it is of.

    Args:
        results: the run.
        given: its data; made from the run's settings if None.
        layer: the one layer that is wanted; None for all.
        controls: whether the controls are wanted too, or the names of those that are.

    Raises:
        ValueError: the settings do not tell the data, or there is no such layer or control.
    """
    records = [record for record in results.records if record.error is None and record.fits[0].folder is not None]
    if layer is not None:
        layers = list(dict.fromkeys(record.layer for record in records if record.layer is not None))
        if layer not in layers:
            raise ValueError(
                f"layer is {layer!r}, and the run in {results.folder} has {', '.join(layers) or 'no layers'}: give one "
                "of these, or leave it out"
            )
        records = [record for record in records if record.layer == layer]
    there = list(dict.fromkeys(record.data for record in records if record.control_of is not None))
    wanted = there if controls is True else controls or []
    for name in wanted:
        if name not in there:
            raise ValueError(
                f"controls has {name!r}, and the run in {results.folder} has {', '.join(there) or 'none'}: give some "
                "of these"
            )
    records = [record for record in records if record.control_of is None or record.data in wanted]
    if not records:
        raise ValueError(f"the run in {results.folder} has no finished fit: resume it first")
    made = _make({name: results.settings[name] for name in _NAMES if results.settings.get(name)}, given)
    module = SparseCodingModule(records[0].dictionary.d_model, num_atoms=1)
    subjects = prepare(module, [made["data"], *made.get("also", [])], made.get("controls", []) if wanted else [])
    by_name = {_name_of(subject, subjects): subject for subject in subjects}
    found = []
    for record in records:
        subject = by_name.get((record.data, record.model, record.layer, record.control_of))
        if subject is not None:  # the true features, say, have no rows of their own
            found.append((record, subject))
    if not any(record.control_of is None for record, _ in found):
        names = ", ".join(subject.label for subject in subjects if subject.control_of is None)
        raise ValueError(
            f"data are {names}, and the run in {results.folder} is of {', '.join(record.data for record in records)}: "
            "give the data of the run"
        )
    return found


def _name_of(subject: Subject, subjects: list[Subject]) -> tuple[str, str | None, str | None, str | None]:
    """What tells a subject from others, as its record has it."""
    model, layer = (subject.place.model, subject.place.layer) if subject.place is not None else (None, None)
    control_of = None if subject.control_of is None else subjects[subject.control_of].label
    return subject.label, model, layer, control_of


def _make(settings: dict[str, Any], given: ActivationDataModule | None) -> dict[str, Any]:
    """Data and controls from the settings of a run, or the data given.

    Only installed plugins are made: nothing is imported because a file names it.
    """
    if given is not None:
        settings = {name: value for name, value in settings.items() if name == "controls"}
    elif "data" not in settings:
        raise ValueError(
            f"the run was not made by the command line, so its settings do not tell its data: {_GIVE_DATA}"
        )
    installed = {entry.value.replace(":", ".") for entry in available_plugins().values()} | set(available_plugins())
    for path in _class_paths(settings):
        if path not in installed:
            raise ValueError(
                f"the run's settings name {path!r}, which is no installed plugin: install it, or {_GIVE_DATA}"
            )
    parser = SparseCodingParser(exit_on_error=False)
    _add_arguments(parser, settings)
    try:
        made = dict(parser.instantiate_classes(parser.parse_object(settings)))
    except Exception as error:  # jsonargparse's own errors are of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ValueError(f"the data of the run cannot be made again ({reason}): {_GIVE_DATA}") from error
    return made if given is None else {**made, "data": given}


def _add_arguments(parser: ArgumentParser, settings: dict[str, Any]) -> None:
    types = {"data": ActivationDataModule, "also": list[ActivationDataModule], "controls": list[Control]}
    for name in settings:
        parser.add_argument(f"--{name}", type=types[name])


def _class_paths(settings: Any) -> Iterator[Any]:
    """All class paths in settings, however deep."""
    if isinstance(settings, dict):
        if "class_path" in settings:
            yield settings["class_path"]
        settings = list(settings.values())
    if isinstance(settings, list):
        for each in settings:
            yield from _class_paths(each)
