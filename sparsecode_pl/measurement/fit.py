"""One data set of a measurement: its fits, from one or more initial dictionaries, and their scores."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer

from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.measurement.exact import score_exactly
from sparsecode_pl.measurement.penalty import largest_penalty
from sparsecode_pl.measurement.subjects import Subject
from sparsecode_pl.metrics.functional import atom_recovery, oracle_sparsity
from sparsecode_pl.module import SCORES, SparseCodingModule
from sparsecode_pl.utilities.seeding import generator

Record = dict[str, Any]
TrainerFactory = Callable[[SparseCodingModule, Path], Trainer]

#: Training rows that the penalty of a share of variance is sought on; the scores are of all rows.
_SEARCH_ROWS = 8192


def measure_subject(
    subject: Subject, folder: Path, trainer: TrainerFactory, seeds: int, explained_variance: float | None, exact: bool
) -> Record:
    """Fit a subject from each initial dictionary and gather the scores; see `measure` for what a record holds."""
    fits = []
    for seed in range(seeds):
        module = subject.module.fresh(seed=subject.module.seed + seed)
        target = folder if seeds == 1 else folder / f"seed_{seed}"
        try:
            fits.append(_fit(module, subject.data, trainer(module, target), explained_variance, exact))
        finally:
            subject.data.release()
    return _summary(fits)


def _fit(
    module: SparseCodingModule,
    data: ActivationDataModule,
    trainer: Trainer,
    explained_variance: float | None,
    exact: bool,
) -> Record:
    start = time.perf_counter()
    trainer.fit(module, datamodule=data)
    scores, rounds = _scores(trainer), trainer.current_epoch
    if explained_variance is not None:
        scores = _score_at_share(module, data, trainer, explained_variance)
    if exact:
        scores |= score_exactly(module, data, trainer)
    record: Record = {}
    for prefix, rows, index in (("", "train", data.train_index), ("heldout_", "heldout", data.heldout_index)):
        if len(index):
            record |= {prefix + name: scores[f"{rows}/{name}"] for name in SCORES}
            if exact:
                record |= {f"{prefix}exact_{name}": scores[f"exact/{rows}/{name}"] for name in SCORES}
                record[f"{prefix}coding_gap"] = scores[f"exact/{rows}/coding_gap"]
            record[f"{prefix}num_samples"] = len(index)
    num_atoms = len(module.dictionary.atoms)
    record |= {
        "lam": module.eval_lam or float(module.lam),
        "train_lam": float(module.lam),
        "atoms_alive": num_atoms - round(scores["train/dead_atoms"] * num_atoms),
        "num_atoms": num_atoms,
        "rounds": rounds,
        "seconds": time.perf_counter() - start,
    }
    if data.source.ground_truth is not None:
        truth = data.source.ground_truth
        record["half_active"] = truth.half_active
        record["oracle_S1"] = float(oracle_sparsity(truth.codes))
        atoms = module.dictionary.atoms.detach().cpu()
        record["atom_recovery"] = float(atom_recovery(truth.features, atoms).mean_max_cosine)
    return record


def _scores(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _score_at_share(
    module: SparseCodingModule, data: ActivationDataModule, trainer: Trainer, share: float
) -> dict[str, float]:
    """Set the largest penalty for scoring at which the training rows reach the share, and score all rows at it."""
    random = generator(module.seed)
    chosen = torch.randperm(len(data.train_index), generator=random)[:_SEARCH_ROWS]
    device = trainer.strategy.root_device
    x = data.rows[data.train_index[chosen]].to(device)
    loggers, trainer.loggers = trainer.loggers, []  # the curves are those of training
    aim = share
    try:
        while True:
            module.to(device)
            start = module.eval_lam or float(module.lam)
            module.eval_lam = largest_penalty(module.dictionary, module.coder, x, aim, start)
            trainer.validate(module, datamodule=data, verbose=False)
            scores = _scores(trainer)
            reached = scores["train/explained_variance"]
            if reached >= share:
                break
            aim = 1 - 0.99 * (1 - aim) * (1 - share) / (1 - reached)  # the rows searched on were a little easier
    finally:
        trainer.loggers = loggers
    for logger in loggers:
        at_share = {name: scores[name] for name in scores if name.startswith(("train/", "heldout/"))}
        logger.log_metrics({f"explained_{share:g}/{name}": value for name, value in at_share.items()})
        logger.log_metrics({f"explained_{share:g}/lam": module.eval_lam})
        logger.finalize("success")
    return scores


def _summary(fits: list[Record]) -> Record:
    """Mean over the fits of one data set, with the spread where there are several."""
    if len(fits) == 1:
        return fits[0]
    values = {name: [fit[name] for fit in fits] for name in fits[0]}
    varying = [name for name, each in values.items() if len(set(each)) > 1]
    means = {name: float(np.mean(values[name])) for name in varying}  # NaN if one of them is
    return fits[0] | means | {"spread": {name: float(np.std(values[name], ddof=1)) for name in varying}}
