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
    SparseCodingProgress,
    TensorBoardFigures,
    TensorBoardHParams,
)
from sparsecode_pl.module import SparseCodingModule

#: Rounds at most, batches between two entries in the log, and nothing scored or listed before there is anything.
TRAINER_DEFAULTS = {"max_epochs": 10, "log_every_n_steps": 10, "num_sanity_val_steps": 0, "enable_model_summary": False}


def run_callbacks(
    module: SparseCodingModule, adaptive_penalty: AdaptivePenalty | None = None, progress: bool = True
) -> list[Callback]:
    """The callbacks of every fit: figures, settings, the saved dictionary, the penalty's rounds, a progress bar.

    Args:
        module: what is fitted; at a fixed penalty there is no `AdaptivePenalty`.
        adaptive_penalty: how the penalty is set; a copy is used, for it has state.
        progress: whether there is a progress bar.
    """
    callbacks: list[Callback] = [TensorBoardFigures(), TensorBoardHParams(), DictionarySaver()]
    if progress:
        callbacks.append(SparseCodingProgress())
    if module.fixed_lam is None:
        callbacks.append(copy.deepcopy(adaptive_penalty or AdaptivePenalty()))
    return callbacks


def default_trainer(
    module: SparseCodingModule,
    folder: Path,
    *,
    adaptive_penalty: AdaptivePenalty | None = None,
    callbacks: Sequence[Callback] = (),
    trainer_class: Callable[..., Trainer] = Trainer,
    **settings: Any,
) -> Trainer:
    """A trainer as `sparsecode measure` uses it.

    Args:
        module: what is fitted.
        folder: where it logs to.
        adaptive_penalty: how the penalty is set, where the module does not fix it.
        callbacks: further ones; copies are used, so that one fit leaves no trace in the next.
        trainer_class: what is made.
        settings: of `lightning.Trainer`.
    """
    if current_process().name != "MainProcess":  # the bars of parallel fits would overwrite each other
        settings["enable_progress_bar"] = False
    ours = run_callbacks(module, adaptive_penalty, settings.get("enable_progress_bar") is not False)
    logger = TensorBoardLogger(folder.parent, name=folder.name, version="", default_hp_metric=False)
    settings = {**TRAINER_DEFAULTS, "logger": logger, **settings}
    return trainer_class(callbacks=[*copy.deepcopy(list(callbacks)), *ours], **copy.deepcopy(settings))
