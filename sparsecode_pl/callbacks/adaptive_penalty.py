"""The adaptive penalty: a fixed share of the mean largest coefficient."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from sparsecode_pl.coding.checks import check_penalty
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.arguments import check_arguments


class AdaptivePenalty(Callback):
    """Set lam to `ratio` times the mean over samples of the largest coefficient (arXiv 2310.07837).

    The first round uses `ratio` times the mean norm of the samples. This is an upper bound, because no coefficient
    exceeds the norm. After each round lam becomes `ratio` times the mean maximum over all training rows, and training
    continues from the same dictionary, until lam changes by no more than `tolerance`. Starting from a low lam instead
    drives it towards 0 and makes the codes dense. `Trainer(max_epochs=...)` limits the rounds; two or three suffice.

    Args:
        ratio: lam over the mean maximum, in (0, 2).
        tolerance: largest relative change of lam, > 0, that counts as settled.

    Raises:
        ValueError: an argument is out of its range; or, when a fit is set up, the module's own `lam` is set, or the
            trainer does not score the training rows.
        TypeError: when a fit is set up, the module is not a `SparseCodingModule`.
    """

    def __init__(self, ratio: float = 0.1, tolerance: float = 0.03) -> None:
        check_arguments(AdaptivePenalty.__init__, locals())
        if not 0 < ratio < 2:
            raise ValueError(f"ratio is {ratio}: give a number in (0, 2); at 2 all codes are zero")
        if not tolerance > 0:
            raise ValueError(f"tolerance is {tolerance}: give a number above 0, such as 0.03")
        self.ratio = ratio
        self.tolerance = tolerance
        self._scored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What the scoring of the last round gave; nothing within a round."""
        return {"scored": self._scored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._scored = state_dict.get("scored")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that module and trainer allow an adaptive penalty."""
        if stage != "fit":
            return
        self._scored = None  # of another fit; a checkpoint is read after this
        if not isinstance(pl_module, SparseCodingModule):
            raise TypeError(f"AdaptivePenalty is for SparseCodingModule, not {type(pl_module).__name__}")
        if pl_module.fixed_lam is not None:
            raise ValueError(f"lam is {pl_module.fixed_lam}, but AdaptivePenalty would change it: remove one of them")
        if trainer.limit_val_batches == 0:
            raise ValueError(
                "limit_val_batches is 0, but AdaptivePenalty needs scores of the training rows: set it to 1.0"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set the first penalty. A run resumed at the end of a round ends or goes on, by the settings of today."""
        if pl_module.lam.isnan():
            scale = float(pl_module.dictionary.scale)
            lam = check_penalty(self.ratio * pl_module.data.statistics.mean_norm / scale)
            pl_module.set_penalty(lam, lam_from=lam)
        elif self._scored is not None:
            pl_module.set_penalty(self._scored["lam"], lam_from=self._scored["lam"])
            self._decide(trainer, pl_module, **self._scored)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """A round begins."""
        self._scored = None

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """After a round, stop if lam has settled, otherwise set it for the next round."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        mean_max = float(trainer.callback_metrics["train/mean_max"])
        self._scored = {"lam": float(pl_module.lam), "mean_max": mean_max, "rounds": trainer.current_epoch + 1}
        self._decide(trainer, pl_module, **self._scored)

    def _decide(self, trainer: Trainer, pl_module: Any, lam: float, mean_max: float, rounds: int) -> None:
        """Stop, or set the penalty of the next round, given what the last one was trained at and what it gave."""
        # In float32, so that the order in which processes add does not show.
        new = float(torch.tensor(self.ratio * mean_max))
        if abs(new - lam) <= self.tolerance * lam:
            rank_zero_info(f"lam has settled at {lam:.4g} after {rounds} rounds")
            trainer.should_stop = True
        elif new == 0:
            trainer.should_stop = True  # the metrics have warned that all codes are zero
        elif trainer.max_epochs not in (None, -1) and rounds >= trainer.max_epochs:
            rank_zero_warn(
                f"lam has not settled: it is {lam:.4g}, and {self.ratio} x the mean maximum is {new:.4g}, but "
                f"max_epochs is {trainer.max_epochs}: raise it for another round"
            )
        else:
            pl_module.set_penalty(new, lam_from=lam)
