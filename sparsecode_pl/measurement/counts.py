"""Scores at the penalty where the codes have a given mean number of non-zero coefficients."""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsecode_pl.codec import Codec
from sparsecode_pl.data import BUCKETS, ActivationDataModule
from sparsecode_pl.measurement.penalty import penalty_of_count
from sparsecode_pl.measurement.shares import score_rows
from sparsecode_pl.scoring import AtomUse, Scores
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.ranks import from_rank_zero
from sparsecode_pl.utilities.seeding import generator

#: How near N0 comes to what is asked for, relatively.
TOLERANCE = 0.01

# The penalty is sought on so many rows; passes over all rows then correct it, at most so many.
_SEARCH_ROWS, _PASSES = 2048, 4
# It is sought from so many times the adaptive penalty, a tenth of the mean largest coefficient: few codes are cheap.
_FROM = 10


def score_at_count(
    codec: Codec, data: ActivationDataModule, kind: str, count: float
) -> tuple[float, dict[str, Tensor]]:
    """Score rows of a kind at the penalty where their codes have N0 non-zero coefficients on average.

    Every process must call this.

    Args:
        codec: what codes the rows.
        data: the rows.
        kind: "train", "heldout" or "unseen".
        count: the N0 that is wanted, > 0; it is met to `TOLERANCE` where four passes over the rows suffice.

    Returns:
        The penalty with the nearest N0 that was found, and the scores there, with their sums by bucket and the use of
        the atoms.

    Raises:
        ShareNotReachedError: no penalty gives so many.
    """
    lam, slope = from_rank_zero(_search(codec, data, kind, count))
    found: dict[float, tuple[float, dict[str, Tensor]]] = {}  # by the relative error
    for _ in range(_PASSES):
        values = score_rows(codec, data, kind, [Scores(lam, BUCKETS), AtomUse(lam)])
        reached = float(values["N0"])
        found[abs(reached / count - 1)] = lam, values
        if min(found) <= TOLERANCE:
            break
        lam *= min(2.0, max(0.5, (max(reached, 0.1 * count) / count) ** (1 / slope)))
    return found[min(found)]


def _search(codec: Codec, data: ActivationDataModule, kind: str, count: float) -> Callable[[], tuple[float, float]]:
    def search() -> tuple[float, float]:
        index = data.row_sets[kind]
        chosen = torch.randperm(len(index), generator=generator(0))[:_SEARCH_ROWS].sort().values
        rows = data.rows[index[chosen]].to(codec.atoms.device)
        with Progress("searching for the penalty", None):
            return penalty_of_count(codec, rows, count, _FROM * codec.lam)

    return search
