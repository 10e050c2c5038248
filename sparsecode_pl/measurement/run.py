"""Measure data beside its controls: fit a dictionary on each, and report."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from sparsecode_pl.data import ActivationDataModule, Control
from sparsecode_pl.measurement.fit import Record, TrainerFactory
from sparsecode_pl.measurement.jobs import Failure, run_jobs
from sparsecode_pl.measurement.picture import draw
from sparsecode_pl.measurement.report import print_table, write_results
from sparsecode_pl.measurement.subjects import Subject, prepare
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule


class MeasurementError(RuntimeError):
    """Some data sets of a measurement failed; all others are done and written."""


def measure(
    module: SparseCodingModule,
    data: ActivationDataModule | Sequence[ActivationDataModule],
    controls: Sequence[Control] = (),
    *,
    seeds: int = 1,
    explained_variance: float | None = None,
    exact: bool = False,
    jobs: int = 1,
    folder: str | Path = "lightning_logs/measure",
    trainer: TrainerFactory = default_trainer,
    settings: dict[str, Any] | None = None,
) -> list[Record]:
    """Measure how sparse `data` is, beside its controls.

    Data of several layers is measured layer by layer, each with its own dictionary and controls. The first of the
    `seeds` initial dictionaries has the module's seed, the next that plus one, and so on. After each data set the files
    in the run folder are written anew, and one that fails does not keep the others from going on.

    Args:
        module: an untrained module; each fit has a fresh one of its settings and of the data's width.
        data: what is measured; several of them go into one table and one picture.
        controls: what each is held against, see `Control`; other data of the same width can be one too.
        seeds: fits of each data set, from different initial dictionaries, >= 1.
        explained_variance: score each dictionary at the largest penalty at which its codes explain this share of the
            variance of the training rows, in (0, 1) (paper, appendix H); at the penalty of training if None.
        exact: score each dictionary with the exact codes too, which the paper defines the scores by (section 2) and the
            coder approximates, at the same penalty, and tell how far apart the two are.
        jobs: data sets that are fitted at a time, >= 1, each in a process with its share of the cores and, if there
            are any, one GPU.
        folder: the run folder gets a number in here.
        trainer: makes the trainer of one fit from its module and its folder.
        settings: goes into `results.json`; the module's hyper-parameters if None.

    Returns:
        One record for each data set: `data`, then `S1`, `L_norm`, `N0`, `L`, `explained_variance` and `num_samples` of
        the training rows and, with the prefix `heldout_`, of the held-out rows, `lam` (of the scores), `train_lam`,
        `atoms_alive`, `num_atoms`, `rounds`, `seconds`; for layers and their controls `model` and `layer`; for controls
        `control_of` (the data's name), `S1_ratio` (the data's S1 over the control's) and `heldout_S1_ratio`; with known
        truth `half_active`, `oracle_S1` and `atom_recovery`. With `exact`, the scores and ratios of the exact codes,
        such as `exact_S1`, `heldout_exact_S1` and `exact_S1_ratio`, and `coding_gap` and `heldout_coding_gap`, the
        relative excess of the objective of the coder's codes (see `CodingGap`). With several seeds the figures are
        means, and `spread` holds their standard deviations.

    Raises:
        ValueError: an argument is out of its range, or data, controls or module are wrong or do not fit together.
        OSError: the folder cannot be written.
        MeasurementError: some data sets failed; the run folder holds what the others gave, and what was wrong.
    """
    check_options(seeds, explained_variance, jobs)
    subjects = prepare(module, data, controls)
    settings = {"model": dict(module.hparams)} if settings is None else settings
    return measure_subjects(subjects, seeds, explained_variance, exact, jobs, Path(folder), trainer, settings)


def check_options(seeds: int, explained_variance: float | None, jobs: int) -> None:
    """Check the options of a measurement.

    Raises:
        ValueError: one is out of its range.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")
    if explained_variance is not None and not 0 < explained_variance < 1:
        raise ValueError(f"explained_variance is {explained_variance}: give a share in (0, 1), such as 0.98")


def measure_subjects(
    subjects: list[Subject],
    seeds: int,
    explained_variance: float | None,
    exact: bool,
    jobs: int,
    folder: Path,
    trainer: TrainerFactory,
    settings: dict[str, Any],
) -> list[Record]:
    """Fit what `prepare` has listed, and report; see `measure`."""
    run = _run_folder(folder)
    digits = len(str(len(subjects) - 1))
    whole = run.absolute()  # other processes may have started elsewhere
    folders = [whole / f"{number:0{digits}}-{_slug(subject.title)}" for number, subject in enumerate(subjects)]
    found: dict[int, Record] = {}
    failures: list[Failure] = []
    for number, outcome in run_jobs(subjects, folders, trainer, seeds, explained_variance, exact, jobs):
        if isinstance(outcome, Failure):
            rank_zero_warn(f"{subjects[number].title} failed: {outcome}")
            failures.append(outcome)
            found[number] = {"error": outcome.message}
            rank_zero_only(_write_trace)(folders[number], outcome)
        else:
            found[number] = outcome
        records = _in_order(subjects, found)
        rank_zero_only(write_results)(run, records, settings)
        rank_zero_only(draw)(records, run / "sparsity.png")
    rank_zero_only(_show_in_tensorboard)(run)
    rank_zero_only(print_table)(records)
    rank_zero_info(f"Results: {run}\nCurves:  tensorboard --logdir {run}")
    if failures:
        raise MeasurementError(
            f"{len(failures)} of {len(subjects)} data sets failed, the first with {failures[0]}. The results of the "
            f"others are in {run}, and what went wrong in the folder of each, in error.txt"
        )
    return records


def _in_order(subjects: list[Subject], found: dict[int, Record]) -> list[Record]:
    """The records so far, each control with the ratio of its data's score to its own."""
    records = []
    for number in sorted(found):
        subject = subjects[number]
        record: Record = {"data": subject.label}
        if subject.place is not None:
            record |= {"model": subject.place.model, "layer": subject.place.layer}
        if subject.control_of is None:
            record |= found[number]
        else:
            record |= {"control_of": subjects[subject.control_of].label, **found[number]}
            source = found.get(subject.control_of, {})
            for name in ("S1", "heldout_S1", "exact_S1", "heldout_exact_S1"):
                if name in record and name in source:
                    record[f"{name}_ratio"] = source[name] / record[name]
        records.append(record)
    return records


def _write_trace(folder: Path, failure: Failure) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(failure.trace)


def _show_in_tensorboard(run: Path) -> None:
    """Put the picture among the curves."""
    picture = run / "sparsity.png"
    if picture.is_file():
        with SummaryWriter(str(run)) as writer, Image.open(picture) as image:
            writer.add_image("sparsity", np.asarray(image.convert("RGB")), dataformats="HWC")


def _run_folder(folder: Path) -> Path:
    """The next free numbered folder."""
    check_writable(folder)
    taken = [int(path.name[8:]) for path in folder.glob("version_*") if path.name[8:].isdigit()]
    run = folder / f"version_{max(taken, default=-1) + 1}"
    rank_zero_only(run.mkdir)()
    return run


def check_writable(folder: str | Path) -> None:
    """Make a folder if need be and check that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".sparsecode"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"output folder {folder} cannot be written ({error.strerror}): give another folder") from error


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", label).strip("_")
