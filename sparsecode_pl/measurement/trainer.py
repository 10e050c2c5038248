"""The trainer of a run."""

import copy
from collections.abc import Callable, Sequence
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from sparsecode_pl.callbacks import (
    AdaptivePenalty,
    DictionarySaver,
    RunCheckpoint,
    SparseCodingProgress,
    TensorBoardFigures,
    TensorBoardHParams,
)
from sparsecode_pl.callbacks.run_checkpoint import resumable
from sparsecode_pl.module import SparseCodingModule

#: Maximum rounds, batches between two log entries, and neither scoring nor a summary before training.
TRAINER_DEFAULTS = {"max_epochs": 10, "log_every_n_steps": 10, "num_sanity_val_steps": 0, "enable_model_summary": False}


def run_callbacks(
    module: SparseCodingModule,
    adaptive_penalty: AdaptivePenalty | None = None,
    progress: bool = True,
    checkpoint: RunCheckpoint | None = None,
) -> list[Callback]:
    """The callbacks of every fit: figures, settings, the saved dictionary, the penalty, checkpoints, a progress bar.

    Args:
        module: the module to fit; at a fixed penalty there is no `AdaptivePenalty`.
        adaptive_penalty: sets the penalty; a copy is used, because it has state.
        progress: whether there is a progress bar.
        checkpoint: saves checkpoints; a copy is used. None saves none.
    """
    callbacks: list[Callback] = [TensorBoardFigures(), TensorBoardHParams(), DictionarySaver()]
    if progress:
        callbacks.append(SparseCodingProgress())
    if checkpoint is not None:
        callbacks.append(copy.deepcopy(checkpoint))
    if module.fixed_lam is None:
        callbacks.append(copy.deepcopy(adaptive_penalty or AdaptivePenalty()))
    return callbacks


def default_trainer(
    module: SparseCodingModule,
    folder: Path,
    *,
    adaptive_penalty: AdaptivePenalty | None = None,
    checkpoint: RunCheckpoint | None = None,
    callbacks: Sequence[Callback] = (),
    trainer_class: Callable[..., Trainer] = Trainer,
    **settings: Any,
) -> Trainer:
    """The trainer that `sparsecode measure` uses. Where a fit was interrupted, its curves go on from the checkpoint.

    Args:
        module: the module to fit.
        folder: the log folder.
        adaptive_penalty: sets the penalty, unless the module fixes it.
        checkpoint: saves checkpoints, unless `settings` say that there are none.
        callbacks: further callbacks; copies are used, so that one fit does not affect the next.
        trainer_class: the class of the trainer.
        settings: arguments of `lightning.Trainer`.
    """
    if current_process().name != "MainProcess":  # the bars of parallel fits would overwrite each other
        settings["enable_progress_bar"] = False
    if settings.get("enable_checkpointing") is False:
        checkpoint = None
    elif checkpoint is None:
        checkpoint = RunCheckpoint()
    ours = run_callbacks(module, adaptive_penalty, settings.get("enable_progress_bar") is not False, checkpoint)
    last = resumable(folder)
    again: dict[str, Any] = {} if last is None else {"purge_step": last[1]}
    logger = TensorBoardLogger(folder.parent, name=folder.name, version="", default_hp_metric=False, **again)
    # Where SLURM announces a requeue, Lightning saves to the root folder, and any other fit would go on from there.
    settings = {**TRAINER_DEFAULTS, "logger": logger, **settings, "default_root_dir": folder}
    return trainer_class(callbacks=[*copy.deepcopy(list(callbacks)), *ours], **copy.deepcopy(settings))
