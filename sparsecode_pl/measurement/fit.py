"""One fit of a measurement: a dictionary is learnt, scored and saved."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from sparsecode_pl.data import ROWS, ActivationDataModule, GroundTruth
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement.penalty import PRECISION, ShareNotReachedError, largest_penalty
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.record import DICTIONARY, Fit
from sparsecode_pl.measurement.subjects import Subject
from sparsecode_pl.metrics.functional import atom_recovery, oracle_sparsity
from sparsecode_pl.module import SparseCodingModule, record_names
from sparsecode_pl.scoring import AtomUse, Evaluation, Scores, score
from sparsecode_pl.utilities.files import write_file
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.ranks import from_rank_zero, is_shared
from sparsecode_pl.utilities.seeding import generator

TrainerFactory = Callable[[SparseCodingModule, Path], Trainer]

# The penalty of a share is sought on a sixteenth of the training rows, but on at least and at most these numbers.
_SEARCH_SHARE, _SEARCH_ROWS, _MOST_SEARCH_ROWS = 16, 1024, 65_536
# Passes over all training rows until they reach the share, at most, and the smallest factor on the penalty from one to
# the next, so that codes do not become dense where the search was misled.
_PASSES, _SMALLEST_FACTOR = 4, 0.8


def fit_subject(subject: Subject, seed: int, folder: Path, make_trainer: TrainerFactory, plan: Plan) -> Fit:
    """Learn a dictionary of a subject, score it, and write both to a folder.

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
    trainer.fit(module, datamodule=data)
    folder = from_rank_zero(lambda: folder)  # other processes may have counted the run folders at another moment
    dictionary = module.dictionary.to(trainer.strategy.root_device)
    scores, error = dict(module.scores), None
    at_training_penalty = _named(scores, data) | {"lam": dictionary.lam, "train_lam": module.trained_lam}
    try:
        if plan.explained_variance is not None:
            scores = _score_at_share(dictionary, data, plan, scores)
            _log(trainer, {f"explained_{plan.explained_variance:g}/{name}": value for name, value in scores.items()})
            _log(trainer, {f"explained_{plan.explained_variance:g}/lam": dictionary.lam})
        elif plan.evaluations:
            found = dict(pair for rows in data.row_sets for pair in _score(dictionary, data, rows, plan.evaluations))
            _log(trainer, found)
            scores |= found
    except ShareNotReachedError as reason:
        error = str(reason)
    except Exception as reason:  # whatever an evaluation fails of, what training gave is kept
        if is_shared():
            raise  # the other processes are waiting for this one
        error = f"{type(reason).__name__}: {reason}"
    named = _named(scores, data) | {
        "lam": dictionary.lam,
        "train_lam": module.trained_lam,
        "atoms_alive": dictionary.num_atoms - round(scores["train/dead_atoms"] * dictionary.num_atoms),
        "num_atoms": dictionary.num_atoms,
        "rounds": trainer.current_epoch,
        **data.split.facts,
        "seconds": time.perf_counter() - start,
    }
    if data.source.ground_truth is not None:
        named |= _truth(dictionary, data.source.ground_truth)
    other_scores = at_training_penalty if error or plan.explained_variance is not None else {}
    fit = Fit(seed, folder, {} if error else named, other_scores, error)
    if trainer.is_global_zero:
        dictionary.card = replace(dictionary.card, scores=at_training_penalty if error else named)
        dictionary.save_pretrained(folder / DICTIONARY)
        _update_checkpoints(trainer, dictionary)
        if error is None:
            fit.write()
    return fit


def _score(
    dictionary: Dictionary, data: ActivationDataModule, rows: str, evaluations: Sequence[Evaluation]
) -> list[tuple[str, float]]:
    """Names and values of what can be said in one number, over the rows of a kind."""
    batches = data.val_dataloader()[list(data.row_sets).index(rows)]
    with Progress(f"scoring {ROWS[rows]}", len(batches), unit="batches") as progress:

        def told() -> Iterator[Tensor]:
            for _, batch in batches:
                yield batch
                progress.advance(1)

        values = score(dictionary, told(), evaluations)
    if "atom_activity" in values:
        values["dead_atoms"] = (values.pop("atom_activity") == 0).double().mean()
    return [(f"{rows}/{name}", float(value)) for name, value in values.items() if value.numel() == 1]


def _score_at_share(
    dictionary: Dictionary, data: ActivationDataModule, plan: Plan, known: dict[str, float]
) -> dict[str, float]:
    """Set the largest penalty at which the training rows reach the share, and score all rows at it."""
    share = plan.explained_variance or 0.0
    known_share = known["train/explained_variance"]
    size = min(_MOST_SEARCH_ROWS, max(_SEARCH_ROWS, len(data.train_index) // _SEARCH_SHARE))
    chosen = torch.randperm(len(data.train_index), generator=generator(0))[:size]
    start = dictionary.lam

    def search() -> tuple[float, float]:
        rows = data.rows[data.train_index[chosen.sort().values]].to(dictionary.atoms.device)
        with Progress("searching for the penalty", None):
            return largest_penalty(dictionary, rows, share, start, known_share)

    lam, slope = from_rank_zero(search)
    for _ in range(_PASSES):
        lam *= 1 - PRECISION / 2
        dictionary.lam = lam
        scores = dict(_score(dictionary, data, "train", [Scores(), AtomUse()]))
        reached = scores["train/explained_variance"]
        if reached >= share:
            break
        lam *= max(_SMALLEST_FACTOR, ((1 - share) / (1 - reached)) ** (1 / slope))
    else:
        dictionary.lam = start
        raise ShareNotReachedError(
            f"explained_variance is {share}, but at a penalty of {lam:.4g} all training rows reach only {reached:.4f}: "
            "give a smaller share or more atoms"
        )
    for rows in data.row_sets:
        evaluations = [*([] if rows == "train" else [Scores()]), *plan.evaluations]
        if evaluations:
            scores |= _score(dictionary, data, rows, evaluations)
    return scores


def _named(scores: dict[str, float], data: ActivationDataModule) -> dict[str, float]:
    """Scores as a record has them, training rows first, with the number of the rows."""
    found: dict[str, float] = {}
    for rows, index in data.row_sets.items():
        found |= record_names(
            {
                name: value
                for name, value in scores.items()
                if name.startswith(f"{rows}/") and name not in ("train/mean_max", "train/dead_atoms")
            }
        )
        found["num_samples" if rows == "train" else f"{rows}_num_samples"] = len(index)
    return found


def _truth(dictionary: Dictionary, truth: GroundTruth) -> dict[str, float]:
    """How the dictionary compares with the known answer."""
    atoms = dictionary.atoms.detach().cpu()
    return {
        "half_active": truth.half_active,
        "oracle_S1": float(oracle_sparsity(truth.codes)),
        "atom_recovery": float(atom_recovery(truth.features, atoms).mean_max_cosine),
    }


def _log(trainer: Trainer, scores: dict[str, float]) -> None:
    """Add scores to the curves of a fit that has ended."""
    for logger in trainer.loggers:
        logger.log_metrics({name: value for name, value in scores.items() if not math.isnan(value)})
        logger.finalize("success")


def _update_checkpoints(trainer: Trainer, dictionary: Dictionary) -> None:
    """Give the checkpoints of the final dictionary its penalty and card, so that `predict` codes as was scored."""
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint):
            continue
        for path in {Path(name) for name in (callback.best_model_path, callback.last_model_path) if name}:
            checkpoint = torch.load(path, weights_only=True, map_location="cpu")
            state = checkpoint["state_dict"]
            if torch.equal(state["dictionary.atoms"], dictionary.atoms.detach().cpu()):
                state["dictionary.penalty"] = dictionary.penalty.cpu()
                checkpoint["card"] = dictionary.card.plain()
                content = BytesIO()
                torch.save(checkpoint, content)
                write_file(path, content.getvalue())
