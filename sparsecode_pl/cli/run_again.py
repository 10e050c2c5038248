"""The data and controls of a run, made again from its settings."""

from pathlib import Path
from typing import Any

from sparsecode_pl.data import ActivationDataModule, Control
from sparsecode_pl.data.again import plugin_again
from sparsecode_pl.measurement import Record, Results
from sparsecode_pl.measurement.record import RESULTS
from sparsecode_pl.measurement.run import identity
from sparsecode_pl.measurement.subjects import Subject, list_layers, prepare
from sparsecode_pl.module import SparseCodingModule

# What rows must have in common with those of the run, as `identity` gives it.
_SAME = ("rows", "d_model", "val_split", "heldout_by", "unseen_by", "unseen_split", "remove", "seed", "mean_norm")


def find_run(path: Path) -> Path | None:
    """The run in a folder: the folder itself, or the newest numbered run in it; None if there is none."""
    if (path / RESULTS).is_file():
        return path
    runs = [run for run in path.glob("version_*") if run.name[8:].isdigit() and (run / RESULTS).is_file()]
    return max(runs, key=lambda run: int(run.name[8:]), default=None)


def subjects_again(
    results: Results, given: ActivationDataModule | None, layer: str | None, controls: bool | list[str]
) -> list[tuple[Record, Subject]]:
    """The measured records of a run and their controls, each with the rows that it is of.

    Autoencoders and known truths, which have no dictionary or rows of their own, are left out.

    Args:
        results: the run.
        given: its data; made from the run's settings if None.
        layer: the one layer that is wanted; None for all.
        controls: whether the controls are wanted too, or the names of those that are.

    Raises:
        ValueError: the settings do not tell the data, the data are not those of the run, or there is no such layer or
            control.
    """
    finished = [record for record in results.records if record.error is None and record.fits[0].folder is not None]
    measured = [record for record in finished if record.control_of is None and layer in (None, record.layer)]
    if not measured:
        layers = ", ".join(dict.fromkeys(record.layer for record in finished if record.layer is not None))
        if layer is not None:
            raise ValueError(
                f"layer is {layer!r}, and the run in {results.folder} has {layers or 'no layers'}: give one of these, "
                "or leave it out"
            )
        raise ValueError(f"the run in {results.folder} has no finished fit of its data: resume it first")
    data = [given] if given is not None else _data(results)
    if layer is not None:
        data = [each.data for each in list_layers(data) if each.place is not None and each.place.layer == layer]
    if not data:
        raise ValueError(f"layer is {layer!r}, and the data has no such layer: give the data of the run")
    made = _controls(results) if controls else []
    if controls is not True:
        made = [each for each in made if any(name.startswith(each.label) for name in controls or [])]
    module = SparseCodingModule(data[0].d_model, num_atoms=1)
    subjects = prepare(module, data, made)
    names = {id(subject): _name_of(subject, subjects) for subject in subjects}
    found = []
    for record in finished:
        of = (record.data, record.model, record.layer, record.control_of)
        subject = next((subject for subject in subjects if names[id(subject)] == of), None)
        if subject is None or record.sae is not None:
            continue
        if record.control_of is None or controls is True or (controls and record.data in controls):
            found.append((record, subject))
    _check_found(results, found, subjects, controls)
    return found


def _check_found(
    results: Results, found: list[tuple[Record, Subject]], subjects: list[Subject], controls: bool | list[str]
) -> None:
    """Check that the data are those of the run, and that all wanted controls are there.

    Raises:
        ValueError: they are not.
    """
    if not any(record.control_of is None for record, _ in found):
        names = ", ".join(subject.label for subject in subjects if subject.control_of is None)
        there = ", ".join(record.data for record in results.records if record.control_of is None)
        raise ValueError(f"data are {names}, and the run in {results.folder} is of {there}: give the data of the run")
    if isinstance(controls, list):
        shown = [record.data for record, _ in found if record.control_of is not None]
        for name in controls:
            if name not in shown:
                there = ", ".join(dict.fromkeys(record.data for record in results.records if record.control_of))
                raise ValueError(
                    f"controls has {name!r}, and the controls of the run in {results.folder} are {there or 'none'}: "
                    "give some of these that have rows of their own"
                )
    listed = results.settings.get("subjects", [])
    # Only measured subjects tell of their rows.
    told = {entry.get("title"): entry for entry in listed if isinstance(entry, dict) and "rows" in entry}
    for record, subject in found:
        known, now = told.get(record.data, {}), identity(subject)
        for name in _SAME if record.control_of is None and known else ():
            if known.get(name) != now.get(name):
                raise ValueError(
                    f"{name} is {now.get(name)!r}, but the run in {results.folder} was made with {known.get(name)!r}: "
                    "give the data of the run, or measure these"
                )


def _name_of(subject: Subject, subjects: list[Subject]) -> tuple[str, str | None, str | None, str | None]:
    """What tells a subject from others, as its record has it."""
    model, layer = (subject.place.model, subject.place.layer) if subject.place is not None else (None, None)
    control_of = None if subject.control_of is None else subjects[subject.control_of].label
    return subject.label, model, layer, control_of


def _data(results: Results) -> list[ActivationDataModule]:
    """The data of a run."""
    settings = results.settings
    if not isinstance(settings.get("data"), dict):
        raise ValueError(
            "the run was not made by the command line, so its settings do not tell its data: give the data by --data"
        )
    made = [plugin_again(each) for each in (settings["data"], *_listed(settings, "also"))]
    return [each for each in made if isinstance(each, ActivationDataModule)]


def _controls(results: Results) -> list[Control]:
    """The controls of a run."""
    return [plugin_again(each) for each in _listed(results.settings, "controls")]


def _listed(settings: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = settings.get(name) or []
    if not (isinstance(listed, list) and all(isinstance(each, dict) for each in listed)):
        raise ValueError(f"the run's {name} are {listed!r}, no settings of plugins: give the data by --data")
    return listed
