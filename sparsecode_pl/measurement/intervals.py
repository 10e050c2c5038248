"""Intervals of scores: the bootstrap over buckets of rows, with the dictionary fixed.

A pass over the rows leaves the sums that the scores are ratios of, for each bucket of rows (see `ScoreSums`). Rows that
belong together, such as those of a document, are in one bucket. A replicate draws as many buckets as there are, with
replacement, and has the scores of the rows in them. Which buckets are drawn depends on their number alone, so what was
coded differently, or by another dictionary, can be compared replicate by replicate over the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.data import score_name
from sparsecode_pl.measurement.loss import LOSS_SUMS, loss_figures
from sparsecode_pl.metrics.functional import SUM_COLUMNS, scores_of_sums
from sparsecode_pl.utilities.bootstrap import Array, Interval, filled, interval, resample

_OBJECTIVE, _BOUNDS = (SUM_COLUMNS.index(name) for name in ("objective", "bounds"))
# Names of sums, behind the prefix that the scores have, such as "heldout_".
_SUMS, _EXACT_SUMS = "sums", "exact_sums"


class Replicates(NamedTuple):
    """Values of a score in replicates.

    Attributes:
        values: (num,) float64.
        filled: which buckets have rows to draw, (buckets,) bool.
    """

    values: Array
    filled: NDArray[np.bool_]

    @property
    def interval(self) -> Interval:
        """The interval of the score, see `interval`."""
        return interval(self.values, int(self.filled.sum()))

    def over(self, other: "Replicates") -> "Replicates":
        """The ratio of this score to another.

        Over the same buckets both are of the same draws, so that what they have in common cancels. Over other buckets
        the draws are independent.
        """
        same = np.array_equal(self.filled, other.filled)
        # Equally many buckets draw alike. Moved on by one, the draws of one replicate and of the next meet.
        values = other.values if same else np.roll(other.values, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return Replicates(self.values / values, min(self.filled, other.filled, key=np.sum))


def replicates_of(sums: Mapping[str, Array]) -> dict[str, Replicates]:
    """Replicates of all scores that sums tell of.

    Args:
        sums: for each kind of rows, (buckets, 9), in the order of `SUM_COLUMNS`: "sums" of the coder's codes and maybe
            "exact_sums" of the exact ones, with a prefix such as "heldout_"; and "loss_sums", see `fit_loss`.

    Returns:
        By the names of a record, such as "S1", "heldout_exact_S1" and "coding_gap".
    """
    found: dict[str, Replicates] = {}
    for name, each in sums.items():
        if name.endswith(LOSS_SUMS):
            figures = loss_figures(resample(each), name.removesuffix(LOSS_SUMS))
            found |= {score: Replicates(values, filled(each)) for score, values in figures.items()}
            continue
        prefix = name.removesuffix(_SUMS)
        drawn, has_rows = resample(each), filled(each)
        for score, values in scores_of_sums(torch.from_numpy(drawn)).items():
            found[prefix + score] = Replicates(values.numpy(), has_rows)
        if (exact := prefix + _EXACT_SUMS) in sums:
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = drawn[:, _OBJECTIVE] / resample(sums[exact])[:, _BOUNDS] - 1
            found[f"{prefix}coding_gap"] = Replicates(gap, has_rows)
    return found


def mean_of(each: Sequence[Mapping[str, Replicates]]) -> dict[str, Replicates]:
    """Replicates of the mean of each score over several dictionaries, which coded the same rows."""
    first, *others = each
    return {
        name: Replicates(np.mean([one[name].values for one in each], axis=0), replicates.filled)
        for name, replicates in first.items()
        if all(name in other for other in others)
    }


def take_sums(values: dict[str, Tensor], rows: str) -> dict[str, Array]:
    """Take the sums out of the values of a pass over rows of one kind.

    Args:
        values: by name, as `Scorer.compute` returns them; the sums are removed.
        rows: the kind: "train", "heldout" or "unseen".

    Returns:
        The sums as `replicates_of` takes them.

    Example:
        >>> values = {"S1": torch.tensor(3.0), "sums": torch.zeros(2, 9)}
        >>> list(take_sums(values, "heldout")), list(values)
        (['heldout_sums'], ['S1'])
    """
    names = [name for name in (_SUMS, _EXACT_SUMS) if name in values]
    return {score_name(rows, name): values.pop(name).cpu().numpy() for name in names}
