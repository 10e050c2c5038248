"""One fit of a measurement: a dictionary is learnt, scored and saved."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.callbacks import RunCheckpoint
from sparsecode_pl.callbacks.checkpoint_io import AtomicCheckpointIO
from sparsecode_pl.callbacks.run_checkpoint import resumable
from sparsecode_pl.coding import LassoCoder
from sparsecode_pl.data import ActivationDataModule, score_name
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement.intervals import take_sums
from sparsecode_pl.measurement.loss import fit_loss
from sparsecode_pl.measurement.penalty import ShareNotReachedError
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.record import DICTIONARY, Fit, Level
from sparsecode_pl.measurement.shares import score_at_shares, score_rows
from sparsecode_pl.measurement.subjects import Subject
from sparsecode_pl.measurement.tokens import token_identity
from sparsecode_pl.measurement.truth import truth_scores
from sparsecode_pl.module import SparseCodingModule, record_names
from sparsecode_pl.utilities.bootstrap import Array
from sparsecode_pl.utilities.checkpoint import read_checkpoint
from sparsecode_pl.utilities.ranks import from_rank_zero, is_shared

TrainerFactory = Callable[[SparseCodingModule, Path], Trainer]

# What training needs of its rows, and no score.
_NO_SCORES = ("mean_max", "dead_atoms")


def fit_subject(subject: Subject, seed: int, folder: Path, make_trainer: TrainerFactory, plan: Plan) -> Fit:
    """Learn a dictionary of a subject, score it, and write both to a folder.

    Training that was interrupted goes on from the newest checkpoint in the folder.

    Args:
        subject: what is fitted.
        seed: of the initial dictionary.
        folder: of this fit.
        make_trainer: makes the trainer.
        plan: what is to be scored, and how.
    """
    try:
        return _fit(subject, seed, folder, make_trainer, plan)
    finally:
        subject.data.release()


def _fit(subject: Subject, seed: int, folder: Path, make_trainer: TrainerFactory, plan: Plan) -> Fit:
    start = time.perf_counter()
    module = subject.module.fresh(seed=seed)
    data = subject.data
    trainer = make_trainer(module, folder)
    last = from_rank_zero(lambda: resumable(folder))
    trainer.fit(module, datamodule=data, ckpt_path=None if last is None else last[0])
    folder = from_rank_zero(lambda: folder)  # other processes may have counted the run folders at another moment
    if not module.scores:
        raise RuntimeError("training ended before any rows were scored: give it more time (trainer.max_time) or steps")
    dictionary = module.dictionary.to(trainer.strategy.root_device)
    dictionary.lam = module.eval_lam or module.trained_lam  # its checkpoint may have that of a share already
    counts = {score_name(kind, "num_samples"): len(index) for kind, index in data.row_sets.items()}
    penalties = {"lam": dictionary.lam, "train_lam": module.trained_lam}
    training = {name: value for name, value in record_names(module.scores).items() if name not in _NO_SCORES}
    training |= counts | penalties
    sums = {score_name(kind, "sums"): each.numpy() for kind, each in module.sums.items()}
    scores, error = dict(training), None
    levels: list[Level] = []
    alive = round((1 - module.scores["train/dead_atoms"]) * dictionary.num_atoms)
    try:
        if plan.shares:
            levels, alive = _levels(dictionary, data, plan.shares, module.scores, trainer)
            scores, sums = penalties | levels[0].scores | counts, dict(levels[0].sums)
        for kind in data.row_sets if plan.evaluations else ():
            if score_name(kind, "S1") in scores:
                dictionary.lam = scores.get(score_name(kind, "lam"), scores["lam"])
                values = score_rows(dictionary, data, kind, plan.evaluations)
                sums |= take_sums(values, kind)
                _log(trainer, f"explained_{plan.shares[0]:g}/{kind}" if plan.shares else kind, _numbers(values))
                scores |= {score_name(kind, name): value for name, value in _numbers(values).items()}
        scores |= token_identity(data)
        if data.source.ground_truth is not None:
            kind = "heldout" if len(data.heldout_index) else "train"
            dictionary.lam = scores.get(score_name(kind, "lam"), scores["lam"])
            scores |= truth_scores(dictionary, data.rows, data.source.ground_truth, data.row_sets[kind])
        if plan.loss and subject.own_rows:
            kind = "heldout" if "heldout_S1" in scores else "train"
            dictionary.lam = scores.get(score_name(kind, "lam"), scores["lam"])
            exact = dictionary.bind(LassoCoder()) if plan.exact else None
            main = subject.control_of is None
            lost, loss_sums = fit_loss(dictionary, data, folder, exact=exact, controls=main)
            scores, sums = scores | lost, sums | loss_sums
            _log(trainer, "loss", lost)
    except ShareNotReachedError as reason:
        error = str(reason)
    except Exception as reason:  # whatever scoring fails of, what training gave is kept
        if is_shared():
            raise  # the other processes are waiting for this one
        error = f"{type(reason).__name__}: {reason}"
    dictionary.lam = training["lam"] if error else scores["lam"]
    before = [saver.seconds_before for saver in trainer.checkpoint_callbacks if isinstance(saver, RunCheckpoint)]
    scores |= data.split.facts | {
        "atoms_alive": alive,
        "num_atoms": dictionary.num_atoms,
        "rounds": trainer.fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
        "seconds": time.perf_counter() - start + sum(before),
    }
    fit = Fit(
        seed,
        folder,
        {} if error else scores,
        training if error or plan.shares else {},
        error,
        {} if error else sums,
        tuple(levels) if len(plan.shares) > 1 and not error else (),
    )
    if trainer.is_global_zero:
        dictionary.card = replace(dictionary.card, scores=training if error else scores, intervals=fit.intervals)
        dictionary.save_pretrained(folder / DICTIONARY)
        _update_checkpoints(trainer, dictionary)
        if error is None:
            fit.write()
    return fit


def _levels(
    dictionary: Dictionary,
    data: ActivationDataModule,
    shares: Sequence[float],
    known: Mapping[str, float],
    trainer: Trainer,
) -> tuple[list[Level], int]:
    """The scores at each share that the training rows reach, and how many atoms these use at the first."""
    found = {
        kind: score_at_shares(dictionary, data, kind, shares, known[f"{kind}/explained_variance"])
        for kind in data.row_sets
    }
    for kind, at in found.items():
        for share, reason in at.missed.items():
            if (kind, share) == ("train", shares[0]):
                raise ShareNotReachedError(reason)
            rank_zero_warn(f"{data.label}: {reason}. The scores there are left out")
    levels = []
    for share in (share for share in shares if share in found["train"].values):  # the first is that of the record
        scores: dict[str, float] = {}
        sums: dict[str, Array] = {}
        for kind, at in found.items():
            if share in at.values:
                values = at.values[share]
                sums |= take_sums(values, kind)
                numbers = _numbers(values) | {"lam": at.lam[share]}
                scores |= {score_name(kind, name): value for name, value in numbers.items()}
                _log(trainer, f"explained_{share:g}/{kind}", numbers)
        levels.append(Level(share, scores, sums))
    use = found["train"].use
    return levels, 0 if use is None else int((use > 0).sum())


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The values that are single numbers."""
    return {name: float(value) for name, value in values.items() if value.numel() == 1}


def _log(trainer: Trainer, prefix: str, scores: Mapping[str, float]) -> None:
    """Add scores to the curves of a fit that has ended."""
    for logger in trainer.loggers:
        values = {f"{prefix}/{name}": value for name, value in scores.items() if not math.isnan(value)}
        # At the last step, so that the points of a fit that is killed now are not doubled when it is resumed.
        logger.log_metrics(values, trainer.global_step)
        logger.finalize("success")


def _update_checkpoints(trainer: Trainer, dictionary: Dictionary) -> None:
    """Give the checkpoint of the final dictionary its penalty and card, so that `predict` codes as was scored."""
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, RunCheckpoint | ModelCheckpoint):
            continue
        for path in {Path(name) for name in (callback.best_model_path, callback.last_model_path) if name}:
            checkpoint = read_checkpoint(path)
            state = checkpoint["state_dict"]
            if torch.equal(state["dictionary.atoms"], dictionary.atoms.detach().cpu()):
                state["dictionary.penalty"] = dictionary.penalty.cpu()
                checkpoint["card"] = dictionary.card.plain()
                AtomicCheckpointIO().save_checkpoint(checkpoint, path)
