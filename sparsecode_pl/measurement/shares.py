"""Scores at the penalties where the codes explain given shares of the variance (paper, appendix H)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsecode_pl.codec import Codec
from sparsecode_pl.data import BUCKETS, ROWS, ActivationDataModule
from sparsecode_pl.measurement.penalty import PRECISION, ShareNotReachedError, largest_penalty
from sparsecode_pl.scoring import AtomUse, Evaluation, Scorer, Scores
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.ranks import from_rank_zero
from sparsecode_pl.utilities.seeding import generator

# The penalty of a share is sought on a sixteenth of the rows, but on at least and at most these numbers.
_SEARCH_SHARE, _SEARCH_ROWS, _MOST_SEARCH_ROWS = 16, 1024, 65_536
# Passes over all rows until they reach the share, at most, and the smallest factor on the penalty from one to the next,
# so that codes do not become dense where the search was misled.
_PASSES, _SMALLEST_FACTOR = 4, 0.8


def score_rows(
    dictionary: Codec, data: ActivationDataModule, kind: str, evaluations: Sequence[Evaluation]
) -> dict[str, Tensor]:
    """The values of evaluations over the rows of a kind, by name, with sums by the buckets of the split."""
    batches = data.val_dataloader()[list(data.row_sets).index(kind)]
    scorer = Scorer(dictionary, evaluations)
    device = dictionary.atoms.device
    with Progress(f"scoring {ROWS[kind]}", len(batches), unit="batches") as progress:
        for index, rows in batches:
            scorer.update(rows.to(device), data.split.buckets[index].to(device))
            progress.advance(1)
    return scorer.compute()


@dataclass
class AtShares:
    """What was found for rows of one kind.

    Attributes:
        lam: by share, the largest penalty at which these rows reach it.
        values: by share, the values of the scores, with their sums by bucket.
        use: how many rows use each atom at the first share, as a share of the rows, (m,); None if it was not reached.
        missed: by share, why it was not reached.
    """

    lam: dict[float, float] = field(default_factory=dict)
    values: dict[float, dict[str, Tensor]] = field(default_factory=dict)
    use: Tensor | None = None
    missed: dict[float, str] = field(default_factory=dict)


def score_at_shares(
    dictionary: Codec, data: ActivationDataModule, kind: str, shares: Sequence[float], known: float | None = None
) -> AtShares:
    """Score rows of a kind at the largest penalties at which their codes explain some shares of their variance.

    Each pass over the rows serves all shares. Every process must call this.

    Args:
        dictionary: a learnt dictionary, or another codec.
        data: the rows.
        kind: "train", "heldout" or "unseen".
        shares: in (0, 1), different.
        known: the share of the variance that these rows' codes explain at the dictionary's penalty, if known.
    """
    found = AtShares()
    slopes: dict[float, float] = {}
    for share in shares:
        try:
            found.lam[share], slopes[share] = from_rank_zero(_search(dictionary, data, kind, share, known))
        except ShareNotReachedError as reason:
            found.missed[share] = str(reason)
    pending = list(found.lam)
    for _ in range(_PASSES):
        for share in pending:
            found.lam[share] *= 1 - PRECISION / 2
        evaluations: list[Evaluation] = [Scores(found.lam[share], BUCKETS, f"{share:g}/") for share in pending]
        if shares[0] in pending:
            evaluations.append(AtomUse(found.lam[shares[0]]))
        values = score_rows(dictionary, data, kind, evaluations) if pending else {}
        found.use = values.pop("atom_activity", found.use)
        for share in list(pending):
            own = {
                name.removeprefix(f"{share:g}/"): value
                for name, value in values.items()
                if name.startswith(f"{share:g}/")
            }
            reached = float(own["explained_variance"])
            if reached >= share:
                found.values[share] = own
                pending.remove(share)
            else:
                found.missed[share] = (
                    f"explained_variance is {share}, but at a penalty of {found.lam[share]:.4g} all {ROWS[kind]} reach "
                    f"only {reached:.4f}: give a smaller share or more atoms"
                )
                found.lam[share] *= max(_SMALLEST_FACTOR, ((1 - share) / (1 - reached)) ** (1 / slopes[share]))
    found.missed = {share: reason for share, reason in found.missed.items() if share not in found.values}
    return found


def _search(
    dictionary: Codec, data: ActivationDataModule, kind: str, share: float, known: float | None
) -> Callable[[], tuple[float, float]]:
    def search() -> tuple[float, float]:
        index = data.row_sets[kind]
        size = min(_MOST_SEARCH_ROWS, max(_SEARCH_ROWS, len(index) // _SEARCH_SHARE))
        chosen = torch.randperm(len(index), generator=generator(0))[:size].sort().values
        rows = data.rows[index[chosen]].to(dictionary.atoms.device)
        with Progress("searching for the penalty", None):
            return largest_penalty(dictionary, rows, share, dictionary.lam, known)

    return search
