"""The adaptive penalty: a fixed share of the mean largest coefficient."""

from typing import Any

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
        self._next_lam: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The penalty of the next round, if `max_epochs` stopped training before it."""
        return {"next_lam": self._next_lam}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that penalty."""
        self._next_lam = state_dict["next_lam"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that module and trainer allow an adaptive penalty."""
        if stage != "fit":
            return
        if not isinstance(pl_module, SparseCodingModule):
            raise TypeError(f"AdaptivePenalty is for SparseCodingModule, not {type(pl_module).__name__}")
        if pl_module.fixed_lam is not None:
            raise ValueError(f"lam is {pl_module.fixed_lam}, but AdaptivePenalty would change it: remove one of them")
        if trainer.limit_val_batches == 0:
            raise ValueError(
                "limit_val_batches is 0, but AdaptivePenalty needs scores of the training rows: set it to 1.0"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set the first penalty: the upper bound, or in a resumed run the one put off by `max_epochs`."""
        if self._next_lam is not None and not pl_module.lam.isnan():  # resumed after max_epochs
            pl_module.set_penalty(self._next_lam, lam_from=float(pl_module.lam))
        self._next_lam = None
        if pl_module.lam.isnan():
            scale = float(pl_module.dictionary.scale)
            lam = check_penalty(self.ratio * pl_module.data.statistics.mean_norm / scale)
            pl_module.set_penalty(lam, lam_from=lam)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """After a round, stop if lam has settled, otherwise set it for the next round."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        old = float(pl_module.lam)
        new = self.ratio * float(trainer.callback_metrics["train/mean_max"])
        last = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
        if abs(new - old) <= self.tolerance * old:
            rank_zero_info(f"lam has settled at {old:.4g} after {trainer.current_epoch + 1} rounds")
            trainer.should_stop = True
        elif new == 0:
            trainer.should_stop = True  # the metrics have warned that all codes are zero
        elif last:
            self._next_lam = new
            rank_zero_warn(
                f"lam has not settled: it is {old:.4g}, and {self.ratio} x the mean maximum is {new:.4g}, but "
                f"max_epochs is {trainer.max_epochs}: raise it for another round"
            )
        else:
            pl_module.set_penalty(new, lam_from=old)
