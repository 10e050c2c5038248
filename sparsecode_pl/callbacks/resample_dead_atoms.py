"""Restarts dead atoms at badly reconstructed rows."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from sparsecode_pl.coding import reconstruct
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.seeding import generator

# Training rows that new atoms are drawn from. At most this many atoms are replaced in a round.
_ROWS = 8192


class ResampleDeadAtoms(Callback):
    """Before each round but the first, replace dead atoms by directions of badly reconstructed training rows.

    An atom is dead if no training row used it when the last round was scored, and none of 8,192 random training rows
    uses it at the penalty of the coming round. It is replaced by the direction of one of these rows. Rows are drawn
    without replacement, with probability proportional to their squared residual. Nothing changes after the last round,
    so the dictionary that is kept is the one that was scored. With only one round, as at a fixed penalty, no atom is
    replaced. The draw depends on the module's seed and the round number. `train/resampled_atoms` is the number of atoms
    replaced.

    Raises:
        TypeError: when training begins, the module is not a `SparseCodingModule`.
    """

    def __init__(self) -> None:
        self._dead: Tensor | None = None
        self._resampled: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Which atoms were dead at the last scoring, (m,) bool, and how many were replaced before this round."""
        return {"dead": self._dead, "resampled": self._resampled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self._dead, self._resampled = state_dict["dead"], state_dict.get("resampled")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the module, and clear the state of the last fit."""
        if not isinstance(pl_module, SparseCodingModule):
            raise TypeError(f"ResampleDeadAtoms is for SparseCodingModule, not {type(pl_module).__name__}")
        self._dead = self._resampled = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Record the dead atoms, before the module drops its counts."""
        if not trainer.sanity_checking and pl_module.learn:
            self._dead = (pl_module.activity.compute() == 0).cpu()

    # Not done right after scoring: at that point it is not known whether another round follows, and at which penalty.
    @torch.no_grad()
    def on_train_epoch_start(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Replace the dead atoms. The optimiser needs no change, because its state is cleared before each round."""
        self._resampled = None
        if self._dead is None:
            return
        dead, self._dead = self._dead.nonzero()[:, 0], None
        if len(dead):
            dead, directions = self._replacements(trainer, pl_module, dead)
            pl_module.dictionary.atoms[dead] = directions
            rank_zero_info(f"{len(dead):,} dead atoms replaced before round {trainer.current_epoch + 1}")
        self._resampled = len(dead)

    # Logged at the end, because a round that is resumed in its middle has no beginning.
    def on_train_epoch_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Log how many atoms were replaced."""
        if self._resampled is not None:
            pl_module.log("train/resampled_atoms", float(self._resampled), sync_dist=True)

    @staticmethod
    def _replacements(trainer: Trainer, pl_module: SparseCodingModule, dead: Tensor) -> tuple[Tensor, Tensor]:
        """The atoms to replace, (k,), and their new directions, (k, d)."""
        data, dictionary = pl_module.data, pl_module.dictionary
        random = generator(pl_module.seed, trainer.current_epoch)
        x = dictionary.standardise(data.sample(min(_ROWS, len(data.train_index)), random).to(dictionary.atoms))
        codes = pl_module.coder.bind(dictionary.atoms)(x, float(pl_module.lam))
        errors = (x - reconstruct(codes, dictionary.atoms)).double().square().sum(1).cpu()
        dead = dead[~torch.isin(dead, codes.col_indices().cpu())]
        num = min(len(dead), int(errors.count_nonzero()))
        rows = torch.multinomial(errors, num, generator=random) if num else dead[:0]
        # Codes may differ between processes in the last digit, but their dictionaries must be equal.
        dead, rows = trainer.strategy.broadcast((dead[:num], rows))
        return dead, torch.nn.functional.normalize(x[rows], dim=1)
