"""Atoms that nothing uses begin again where the dictionary fails."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from sparsecode_pl.coding import reconstruct
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.seeding import generator

# Training rows among which new atoms are looked for; no more atoms than these are replaced in a round.
_ROWS = 8192


class ResampleDeadAtoms(Callback):
    """Before each round but the first, replace dead atoms by directions of badly reconstructed training rows.

    Dead is an atom that no training row used when the last round was scored, nor any of 8,192 random training rows at
    the penalty of the coming round. Its place takes the direction of one of these rows, drawn without replacement with
    probability proportional to the squared residual. After the last round nothing changes, so the dictionary that was
    scored is the one that is kept; where there is one round only, as at a fixed penalty, nothing ever does. The draw
    depends on the module's seed and the number of the round. `train/resampled_atoms` says how many were replaced.

    Raises:
        TypeError: when training begins, the module is not a `SparseCodingModule`.
    """

    def __init__(self) -> None:
        self._dead: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Which atoms were dead when last scored, (m,) bool."""
        return {"dead": self._dead}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with those atoms."""
        self._dead = state_dict["dead"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the module, and forget the last fit."""
        if not isinstance(pl_module, SparseCodingModule):
            raise TypeError(f"ResampleDeadAtoms is for SparseCodingModule, not {type(pl_module).__name__}")
        self._dead = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Note the dead atoms, before the module forgets them."""
        if not trainer.sanity_checking and pl_module.learn:
            self._dead = (pl_module.activity.compute() == 0).cpu()

    # Not right after the scoring: only here is it certain that another round comes, and at which penalty.
    @torch.no_grad()
    def on_train_epoch_start(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Replace them. The optimiser need not know: it begins each round afresh."""
        if self._dead is None:
            return
        dead, self._dead = self._dead.nonzero()[:, 0], None
        if len(dead):
            dead, directions = self._replacements(trainer, pl_module, dead)
            pl_module.dictionary.atoms[dead] = directions
            rank_zero_info(f"{len(dead):,} dead atoms replaced before round {trainer.current_epoch + 1}")
        pl_module.log("train/resampled_atoms", float(len(dead)), sync_dist=True)

    @staticmethod
    def _replacements(trainer: Trainer, pl_module: SparseCodingModule, dead: Tensor) -> tuple[Tensor, Tensor]:
        """The atoms to be replaced, (k,), and what by, (k, d)."""
        data, dictionary = pl_module.data, pl_module.dictionary
        random = generator(pl_module.seed, trainer.current_epoch)
        x = dictionary.standardise(data.sample(min(_ROWS, len(data.train_index)), random).to(dictionary.atoms))
        codes = pl_module.coder(x, dictionary.atoms, float(pl_module.lam))
        errors = (x - reconstruct(codes, dictionary.atoms)).double().square().sum(1).cpu()
        dead = dead[~torch.isin(dead, codes.col_indices().cpu())]
        num = min(len(dead), int(errors.count_nonzero()))
        rows = torch.multinomial(errors, num, generator=random) if num else dead[:0]
        # Processes whose codes differ in the last digit must not end up with unlike dictionaries.
        dead, rows = trainer.strategy.broadcast((dead[:num], rows))
        return dead, torch.nn.functional.normalize(x[rows], dim=1)
