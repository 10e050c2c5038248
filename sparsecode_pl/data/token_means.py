"""What is known of a row once its token is known: the mean of the rows of that token in other groups."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.data.rows import Rows

# Shrinkages that are tried: none, and from a millionth of a row to a million rows.
_SHRINKAGES: tuple[float, ...] = (0.0, *(2.0 ** (step / 2) for step in range(-40, 41)))
# Numbers in a block of rows, whose sums are taken in float64.
_BLOCK = 4_194_304
# Sums of more rows of one type in one group are kept, which takes at most a 16th of the memory of all training rows;
# sums of fewer are taken anew when they are asked for.
_FEW = 16


class TokenMeans:
    """A table of the mean row of each token type, made from training rows alone.

    Means are shrunken towards the overall mean, as if there were k more rows of each type, all of them equal to it:
    with n rows of a type the table has (n * mean of the type + k * overall mean) / (n + k). Types without training
    rows have the overall mean. For a row of a training group, all rows of its group are left out of its type's mean.
    A word comes in bursts, so that other rows of the same document would tell more of a training row than the table
    can tell of a held-out document. k is what predicts the training rows best in this way.

    Args:
        rows: all rows, (n, d_model); they may be on disk.
        column: the token type of each row, n numbers or strings.
        train_index: the training rows, (k,) int64.
        groups: the group of each row, such as its document, (n,) int64 (see `Split`). If None, each row is a group.

    Attributes:
        rows: all rows.
        mean: the mean of the training rows, (d_model,) float32.
        shrinkage: k, at least 0; 0 if no type is repeated, for then nothing tells which is best.
        types: for each row the place of its type in the table, -1 if the type has no training rows, (n,) int64.
        repeated: for each row, whether training rows of at least two groups are of its type, (n,) bool.
        share_within: share of the variance of the repeated training rows that lies within types, in [0, 1]; 0 if all
            rows of a type are equal, NaN if there are no repeated ones.

    Raises:
        ValueError: the column or the groups have not one entry for each row, or there are no training rows.

    Example:
        >>> rows = torch.tensor([[1.0], [3.0], [10.0], [14.0], [2.5], [7.0]])
        >>> words = ["a", "a", "b", "b", "a", "c"]
        >>> means = TokenMeans(rows, words, torch.arange(4))
        >>> means.mean, means.repeated
        (tensor([7.]), tensor([ True,  True,  True,  True,  True, False]))
        >>> means.residual(torch.tensor([5]))  # nothing but the overall mean is known of c
        tensor([[0.]])
        >>> documents = torch.tensor([0, 1, 2, 2, 3, 3])
        >>> TokenMeans(rows, words, torch.arange(4), documents).repeated  # all training rows of b are in one document
        tensor([ True,  True, False, False,  True, False])
    """

    def __init__(
        self, rows: Rows, column: Sequence[str] | Tensor, train_index: Tensor, groups: Tensor | None = None
    ) -> None:
        groups = torch.arange(len(rows)) if groups is None else groups
        for name, entries in (("column", column), ("groups", groups)):
            if len(entries) != len(rows):
                raise ValueError(
                    f"{name} has {len(entries)} entries, but there are {len(rows)} rows: give one for each"
                )
        if len(train_index) == 0:
            raise ValueError("train_index is empty: give at least one training row")
        values = column if isinstance(column, Tensor) else torch.from_numpy(np.unique(column, return_inverse=True)[1])
        types = values.unique(return_inverse=True)[1]
        trained, inverse = types[train_index].unique(return_inverse=True)
        means, count, within, self.mean = _moments(rows, train_index, inverse, len(trained))
        place = torch.full((int(types.max()) + 1,), -1)
        place[trained] = torch.arange(len(trained))

        self.rows = rows
        self.types = place[types]
        self._offset = means.sub_(self.mean)  # of each type that was trained on, from the overall mean
        self._count = count.long()
        # A pair is a type in a group. Pairs are in the order of the groups, so that rows on disk are read in theirs.
        keys = groups.unique(return_inverse=True)[1] * len(trained) + self.types
        pairs, self._sizes = keys[train_index].unique(return_counts=True)
        self._members = train_index[keys[train_index].argsort(stable=True)]  # the training rows, pair by pair
        self._starts = self._sizes.cumsum(0) - self._sizes
        found = torch.searchsorted(pairs, keys).clamp_(max=len(pairs) - 1)
        self._pairs = torch.where((self.types >= 0) & (pairs[found] == keys), found, -1)  # of each row, -1 for none

        kinds = pairs % len(trained)
        several = kinds.bincount(minlength=len(trained)) > 1
        self.repeated: Tensor = (self.types >= 0) & several[self.types]
        self.shrinkage = self._choose(kinds)
        between = torch.linalg.vector_norm(self._offset, dim=1, dtype=torch.float64).square()
        inside, outside = within[several].sum(), (count * between)[several].sum()
        self.share_within = float(inside / (inside + outside))

    def residual(self, index: Tensor) -> Tensor:
        """Rows without what the table tells of them: without the mean of the rows of their type in other groups.

        Args:
            index: which rows, (k,) int64.

        Returns:
            (k, d_model) float32.
        """
        place, pairs = self.types[index], self._pairs[index]
        size = torch.where(pairs < 0, 0, self._sizes[pairs])
        number = torch.where(place < 0, 0, self._count[place])
        told = number - size  # how many training rows tell of a row
        share = torch.where(told > 0, 1 / (told.clamp(min=1) + self.shrinkage), 0.0)
        # With c the row, t the mean of its type, both from the overall mean, and s the sum of its pair, what is left
        # is c - (n t - s) / (told + k).
        left = self.rows[index] - self.mean
        own = self._own(index, pairs, left).mul_(share[:, None])
        left -= self._offset[place].mul_((share * number)[:, None])
        return left.add_(own)

    def _own(self, index: Tensor, pairs: Tensor, centred: Tensor) -> Tensor:
        """The sum of the centred training rows of the pair of each row, 0 without any, (k, d_model) float32.

        Args:
            index: which rows, (k,) int64.
            pairs: their pairs.
            centred: the rows, from the overall mean.
        """
        own = torch.zeros_like(centred)
        alone = (pairs >= 0) & (self._sizes[pairs] == 1) & (self._members[self._starts[pairs]] == index)
        own[alone] = centred[alone]
        kept = torch.where(pairs < 0, -1, self._kept[pairs])
        own[kept >= 0] = self._large[kept[kept >= 0]]
        summed = (pairs >= 0) & ~alone & (kept < 0)
        wanted, inverse = pairs[summed].unique(return_inverse=True)
        own[summed] = self._sums(wanted).float()[inverse]
        return own

    def _sums(self, pairs: Tensor) -> Tensor:
        """The sum of the centred training rows of some pairs, (k, d_model) float64."""
        sizes = self._sizes[pairs]
        place = torch.arange(len(pairs)).repeat_interleave(sizes)
        within = torch.arange(len(place)) - (sizes.cumsum(0) - sizes)[place]
        members = self._members[self._starts[pairs][place] + within]
        sums = torch.zeros(len(pairs), self.rows.shape[1], dtype=torch.float64)
        size = max(1, _BLOCK // self.rows.shape[1])
        for part, where in zip(members.split(size), place.split(size), strict=True):
            if len(part):
                sums.index_add_(0, where, self.rows[part].double() - self.mean)
        return sums

    def _choose(self, kinds: Tensor) -> float:
        """The shrinkage that predicts training rows best from the other groups. Keeps the sums of large pairs.

        Args:
            kinds: the type of each pair, (num_pairs,) int64.
        """
        large = self._sizes > _FEW
        self._kept = torch.where(large, large.cumsum(0) - 1, -1)  # place of each pair among those that are kept
        self._large = torch.zeros(int(large.sum()), self.rows.shape[1])
        squares, products, distances = torch.zeros(3, len(kinds), dtype=torch.float64)
        for part in torch.arange(len(kinds)).split(max(1, _BLOCK // self.rows.shape[1])):
            sums = self._sums(part)
            self._large[self._kept[part][large[part]]] = sums[large[part]].float()
            mean = sums / self._sizes[part, None]
            away = mean - self._offset[kinds[part]]
            squares[part], distances[part] = mean.square().sum(1), away.square().sum(1)
            products[part] = torch.einsum("nd,nd->n", mean, away)
        n, p = self._count[kinds].double(), self._sizes.double()
        # The p rows of a pair have the mean m. They are predicted by v = (n t - p m) / (n - p + k), and their squared
        # errors are p |m - v|^2 and a part that does not depend on k. m - v = (n (m - t) + k m) / (n - p + k). Types
        # of one group are predicted by the overall mean whatever k is.
        several = n > p
        n, p, squares, products, distances = (each[several] for each in (n, p, squares, products, distances))

        def error(k: float) -> float:
            parts = n.square() * distances + 2 * n * k * products + k**2 * squares
            return float((p * parts / (n - p + k).square()).sum())

        return min(_SHRINKAGES, key=error)


def _moments(rows: Rows, index: Tensor, types: Tensor, num_types: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moments of rows by type, in one pass.

    Args:
        rows: all rows, (n, d_model).
        index: those that are taken, (k,) int64.
        types: the type of each, (k,) int64, in [0, num_types).
        num_types: number of types, each of which is there.

    Returns:
        The mean of each type, (num_types, d_model) float32; its number of rows, and the sum of the squared distances
        to its mean, (num_types,) float64; the mean of all rows, (d_model,) float32.
    """
    d_model = rows.shape[1]
    means = torch.zeros(num_types, d_model)
    count, within = torch.zeros(2, num_types, dtype=torch.float64)
    total = torch.zeros(d_model, dtype=torch.float64)
    size = max(1, _BLOCK // d_model)
    for part, kinds in zip(index.split(size), types.split(size), strict=True):
        here, inverse, number = kinds.unique(return_inverse=True, return_counts=True)
        x, number = rows[part].double(), number.double()
        mean = x.new_zeros(len(here), d_model).index_add_(0, inverse, x)
        total += mean.sum(0)
        mean /= number[:, None]
        squares = torch.zeros_like(number).index_add_(0, inverse, torch.einsum("nd,nd->n", x, x))
        squares -= number * torch.einsum("nd,nd->n", mean, mean)
        # The moments of a block are joined to those before it (Chan, Golub and LeVeque 1983), so that the table can
        # be float32 without the errors of a long float32 sum.
        step, both = mean - means[here], count[here] + number
        within[here] += squares + count[here] * number / both * step.square().sum(1)
        means[here] += (step * (number / both)[:, None]).float()
        count[here] = both
    return means, count, within.clamp(min=0), (total / len(index)).float()
