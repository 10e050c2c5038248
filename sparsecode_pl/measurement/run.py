"""Fit a dictionary on data and on each control, and gather the scores."""

import copy
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from sparsecode_pl.callbacks import (
    AdaptivePenalty,
    DictionarySaver,
    SparseCodingProgress,
    TensorBoardFigures,
    TensorBoardHParams,
)
from sparsecode_pl.data import ActivationDataModule, ControlActivations
from sparsecode_pl.measurement.picture import draw_sparsity
from sparsecode_pl.measurement.report import print_table, write_results
from sparsecode_pl.metrics.functional import atom_recovery, oracle_sparsity
from sparsecode_pl.module import SCORES, SparseCodingModule

Record = dict[str, Any]

#: Rounds at most, batches between two entries in the log, and nothing scored or listed before there is anything.
TRAINER_DEFAULTS = {"max_epochs": 10, "log_every_n_steps": 10, "num_sanity_val_steps": 0, "enable_model_summary": False}


def run_callbacks(progress: bool) -> list[Callback]:
    """The callbacks of every run: figures, hyper-parameters, the saved dictionary, and a progress bar if wanted."""
    callbacks: list[Callback] = [TensorBoardFigures(), TensorBoardHParams(), DictionarySaver()]
    return [*callbacks, SparseCodingProgress()] if progress else callbacks


def default_trainer(module: SparseCodingModule, folder: Path, **settings: Any) -> Trainer:
    """A trainer as `sparsecode measure` uses it, that logs to `folder`; `settings` go to `lightning.Trainer`."""
    callbacks = run_callbacks(settings.get("enable_progress_bar", True))
    if module.fixed_lam is None:
        callbacks.append(AdaptivePenalty())
    logger = TensorBoardLogger(folder.parent, name=folder.name, version="", default_hp_metric=False)
    return Trainer(**{"callbacks": callbacks, "logger": logger, **TRAINER_DEFAULTS, **settings})


def measure(
    module: SparseCodingModule,
    data: ActivationDataModule,
    controls: Sequence[ActivationDataModule] = (),
    *,
    seeds: int = 1,
    folder: str | Path = "lightning_logs/measure",
    trainer: Callable[[SparseCodingModule, Path], Trainer] = default_trainer,
    settings: dict[str, Any] | None = None,
) -> list[Record]:
    """Measure how sparse `data` is, beside its controls.

    The first of the `seeds` initial dictionaries has the module's seed, the next that plus one, and so on. After each
    data set the files in the run folder are written anew, so that nothing computed is lost.

    Args:
        module: an untrained module; each fit has a fresh copy of it.
        data: what is measured.
        controls: what it is held against; each `ControlActivations` without a source gets `data`.
        seeds: fits of each data set, from different initial dictionaries, >= 1.
        folder: the run folder gets a number in here.
        trainer: makes the trainer of one fit from its module and its folder.
        settings: goes into `results.json`; the module's hyper-parameters if None.

    Returns:
        One record for each data set: `data`, then `S1`, `L_norm`, `N0`, `L`, `explained_variance` and `num_samples` of
        the training rows and, with the prefix `heldout_`, of the held-out rows, `lam` (of the scores), `train_lam`,
        `atoms_alive`, `num_atoms`, `rounds`, `seconds`; for controls `S1_ratio` (the data's S1 over the control's) and
        `heldout_S1_ratio`; with known truth `half_active`, `oracle_S1` and `atom_recovery`. With several seeds the
        figures are means, and `spread` holds their standard deviations.

    Raises:
        ValueError: `seeds` is below 1, or data, controls or module are wrong or do not fit together.
        OSError: the folder cannot be written.
    """
    controls = prepare(module, data, controls, seeds)
    run = _run_folder(Path(folder))
    records: list[Record] = []
    data_sets = [data, *controls]
    for number, current in enumerate(data_sets, 1):
        rank_zero_info(f"[{number}/{len(data_sets)}] {current.label}")
        where = run / f"{number - 1}-{_slug(current.label)}"
        fits = []
        for seed in range(seeds):
            target = where if seeds == 1 else where / f"seed_{seed}"
            fits.append(_fit(module.fresh(module.seed + seed), current, target, trainer))
        record = _summary(fits)
        if current is not data:
            for rows in ("", "heldout_"):
                if f"{rows}S1" in record and f"{rows}S1" in records[0]:
                    record[f"{rows}S1_ratio"] = records[0][f"{rows}S1"] / record[f"{rows}S1"]
        records.append(record)
        rank_zero_only(write_results)(run, records, {"model": dict(module.hparams)} if settings is None else settings)
        rank_zero_only(draw_sparsity)(records, run / "sparsity.png")
    rank_zero_only(print_table)(records)
    rank_zero_info(f"Results: {run}\nCurves:  tensorboard --logdir {run}")
    return records


def prepare(
    module: SparseCodingModule, data: ActivationDataModule, controls: Sequence[ActivationDataModule], seeds: int
) -> list[ActivationDataModule]:
    """Attach the controls, and load and check everything before the first fit.

    Returns:
        The controls; of those without a source a copy that has `data`, so that the caller's can be used again.

    Raises:
        ValueError: see `measure`.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}: give at least 1")
    attached = []
    for control in controls:
        if isinstance(control, ControlActivations) and control.source is None:
            control = copy.copy(control)
            control.attach(data)
        attached.append(control)
    for current in (data, *attached):
        current.setup("fit")
        module.check_width(current)
    return attached


def _fit(
    module: SparseCodingModule,
    data: ActivationDataModule,
    folder: Path,
    make_trainer: Callable[[SparseCodingModule, Path], Trainer],
) -> Record:
    trainer = make_trainer(module, folder)
    start = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - start
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    record: Record = {"data": data.label}
    for prefix, rows, index in (("", "train", data.train_index), ("heldout_", "heldout", data.heldout_index)):
        if len(index):
            record |= {prefix + name: scores[f"{rows}/{name}"] for name in SCORES}
            record[f"{prefix}num_samples"] = len(index)
    num_atoms = len(module.dictionary.atoms)
    record |= {
        "lam": module.eval_lam or float(module.lam),
        "train_lam": float(module.lam),
        "atoms_alive": num_atoms - round(scores["train/dead_atoms"] * num_atoms),
        "num_atoms": num_atoms,
        "rounds": trainer.current_epoch,
        "seconds": seconds,
    }
    if data.ground_truth is not None:
        truth = data.ground_truth
        record["half_active"] = truth.half_active
        record["oracle_S1"] = float(oracle_sparsity(truth.codes))
        atoms = module.dictionary.atoms.detach().cpu()
        record["atom_recovery"] = float(atom_recovery(truth.features, atoms).mean_max_cosine)
    return record


def _summary(fits: list[Record]) -> Record:
    """Mean over the fits of one data set, with the spread where there are several."""
    if len(fits) == 1:
        return fits[0]
    values = {name: [fit[name] for fit in fits] for name in fits[0]}
    varying = [name for name, each in values.items() if len(set(each)) > 1]
    means = {name: float(np.mean(values[name])) for name in varying}  # NaN if one of them is
    return fits[0] | means | {"spread": {name: float(np.std(values[name], ddof=1)) for name in varying}}


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
