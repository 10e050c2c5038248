"""Scores of a learnt dictionary with the exact codes, which the paper defines them by, beside those of its coder."""

import warnings

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.coding import BoundCoder, lasso_encode, reconstruct
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.metrics import CodingGap
from sparsecode_pl.metrics.functional import lower_bound
from sparsecode_pl.module import ROWS, SparseCodingModule, score_metrics

#: Relative duality gap of the exact codes: far below what tells them from greedy ones, which lack some per cent.
TOLERANCE = 1e-4


class ExactScoring(LightningModule):
    """Scores the exact codes of a learnt dictionary, at its penalty for scoring, and what its own codes lack to them.

    It logs each of the `SCORES` as `exact/train/S1`, `exact/heldout/S1` and so on, and `CodingGap` of the coder's codes
    as `exact/train/coding_gap` and `exact/heldout/coding_gap`.

    Args:
        learnt: a module after training.
    """

    def __init__(self, learnt: SparseCodingModule) -> None:
        super().__init__()
        self.learnt = learnt
        self.train_scores, self.heldout_scores = (score_metrics(f"exact/{rows}") for rows in ROWS)
        self.train_gap, self.heldout_gap = CodingGap(), CodingGap()
        self.exactness = CodingGap()
        self._bound: BoundCoder | None = None

    def on_validation_epoch_start(self) -> None:
        """Prepare what all batches share."""
        self._bound = self.learnt.coder.bind(self.learnt.dictionary.atoms)

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch of training rows (loader 0) or of held-out rows (loader 1)."""
        x, lam = self.learnt.dictionary.standardise(batch), self.learnt.eval_lam or float(self.learnt.lam)
        bound = self._bound or self.learnt.coder.bind(self.learnt.dictionary.atoms)
        atoms = bound.atoms
        with warnings.catch_warnings():
            codes = bound(x, lam)
            warnings.simplefilter("ignore")  # that some samples of a batch are less exact; what counts is all of them
            exact, gap, _ = lasso_encode(x, atoms, lam, tol=TOLERANCE, warm_start=codes, gram=bound.gram)
        residual, exact_residual = (x - reconstruct(each, atoms) for each in (codes, exact))
        least = lower_bound(exact, exact_residual, lam, gap)
        scores = self.heldout_scores if dataloader_idx else self.train_scores
        coding_gap = self.heldout_gap if dataloader_idx else self.train_gap
        scores.update(codes=exact, residual=exact_residual, x=x, lam=lam)
        coding_gap.update(codes=codes, residual=residual, lam=lam, bound=least)
        self.exactness.update(codes=exact, residual=exact_residual, lam=lam, bound=least)
        self.log_dict(scores, on_step=False, on_epoch=True, add_dataloader_idx=False, batch_size=len(x))
        name = f"exact/{ROWS[dataloader_idx]}/coding_gap"
        self.log(name, coding_gap, on_step=False, on_epoch=True, add_dataloader_idx=False, batch_size=len(x))

    def on_validation_epoch_end(self) -> None:
        """Warn if codes are less exact than they should be."""
        self._bound = None
        lacking = float(self.exactness.compute())
        if lacking > TOLERANCE:
            rank_zero_warn(
                f"the objective of the exact codes may be {lacking:.1e} above its minimum, not {TOLERANCE:g}, and "
                "coding_gap too large by so much: give a larger lam, or a smaller explained_variance"
            )


def score_exactly(module: SparseCodingModule, data: ActivationDataModule, trainer: Trainer) -> dict[str, float]:
    """Score all rows with the exact codes.

    Args:
        module: after training.
        data: what it was trained on.
        trainer: what it was trained by; its loggers get each score once.

    Returns:
        The scores by the names that `ExactScoring` logs.
    """
    loggers, callbacks = trainer.loggers, trainer.callbacks  # type: ignore[attr-defined]
    # The callbacks but for the bar expect the module that learns, and would draw its codes again.
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
    trainer.loggers, trainer.callbacks = [], bars  # type: ignore[attr-defined]
    try:
        trainer.validate(ExactScoring(module), datamodule=data, verbose=False)
    finally:
        trainer.loggers, trainer.callbacks = loggers, callbacks  # type: ignore[attr-defined]
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for logger in loggers:
        logger.log_metrics(scores)
        logger.finalize("success")
    return scores
