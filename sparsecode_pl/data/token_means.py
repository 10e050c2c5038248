"""What is known of a row once its token is known: the mean of the other rows of that token."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.data.rows import Rows

# Shrinkages that are tried: none, and from a millionth of a row to a million rows.
_SHRINKAGES = (0.0, *(2.0 ** (step / 2) for step in range(-40, 41)))
# Numbers in a block of rows, whose sums are taken in float64.
_BLOCK = 4_194_304


class TokenMeans:
    """A table of the mean row of each token type, made from training rows alone.

    Means are shrunken towards the overall mean, as if there were k more rows of each type, all of them equal to it:
    with n rows of a type the table has (n * mean of the type + k * overall mean) / (n + k). Types without training
    rows have the overall mean. For a training row itself, its own value is left out of its type's mean, so that the
    table tells as much of it as of any other row. k is what predicts the training rows best in this way.

    Args:
        rows: all rows, (n, d_model); they may be on disk.
        column: the token type of each row, n numbers or strings.
        train_index: the training rows, (k,) int64.

    Attributes:
        rows: all rows.
        mean: the mean of the training rows, (d_model,) float32.
        shrinkage: k, at least 0.
        types: for each row the place of its type in the table, -1 if the type has no training rows, (n,) int64.
        repeated: for each row, whether at least two training rows are of its type, (n,) bool.
        share_within: share of the variance of the repeated training rows that lies within types, in [0, 1]; 0 if all
            rows of a type are equal, NaN if there are no repeated ones.

    Raises:
        ValueError: the column has not one entry for each row, or there are no training rows.

    Example:
        >>> rows = torch.tensor([[1.0], [3.0], [10.0], [14.0], [2.5], [7.0]])
        >>> means = TokenMeans(rows, ["a", "a", "b", "b", "a", "c"], torch.arange(4))
        >>> means.mean, means.repeated
        (tensor([7.]), tensor([ True,  True,  True,  True,  True, False]))
        >>> means.residual(torch.tensor([5]))  # nothing but the overall mean is known of c
        tensor([[0.]])
    """

    def __init__(self, rows: Rows, column: Sequence[str] | Tensor, train_index: Tensor) -> None:
        if len(column) != len(rows):
            raise ValueError(f"column has {len(column)} entries, but there are {len(rows)} rows: give one for each")
        if len(train_index) == 0:
            raise ValueError("train_index is empty: give at least one training row")
        values = column if isinstance(column, Tensor) else torch.from_numpy(np.unique(column, return_inverse=True)[1])
        types = values.unique(return_inverse=True)[1]
        trained, inverse = types[train_index].unique(return_inverse=True)
        means, count, within, self.mean = _moments(rows, train_index, inverse, len(trained))

        self.rows = rows
        self._offset = means.sub_(self.mean)  # of each type that was trained on, from the overall mean
        between = torch.linalg.vector_norm(self._offset, dim=1, dtype=torch.float64).square()
        self.shrinkage = min(_SHRINKAGES, key=lambda k: _error_left_out(count, within, between, k))
        several = count > 1
        inside, outside = within[several].sum(), (count * between)[several].sum()
        self.share_within = float(inside / (inside + outside))

        place = torch.full((int(types.max()) + 1,), -1)
        place[trained] = torch.arange(len(trained))
        self.types = place[types]
        self._is_training = torch.zeros(len(rows), dtype=torch.bool)
        self._is_training[train_index] = True
        number = torch.where(self.types < 0, 0, count[self.types].long())
        self.repeated = number > 1
        self._told = number - self._is_training.long()  # how many training rows tell of a row

    def residual(self, index: Tensor) -> Tensor:
        """Rows without what the table tells of them: without the mean of the other rows of their type.

        Args:
            index: which rows, (k,) int64.

        Returns:
            (k, d_model) float32.
        """
        place, told, training = self.types[index], self._told[index], self._is_training[index]
        # With c the row and t the mean of its type, both from the overall mean, what is left of a training row is
        # c - (n t - c) / (n - 1 + k) = (1 + a) c - n a t with a = 1 / (n - 1 + k), and of another c - n / (n + k) t.
        share = torch.where(told > 0, 1 / (told.clamp(min=1) + self.shrinkage), 0.0)
        weight = share * (told + training.long())  # 0 for types that are not in the table
        left = (self.rows[index] - self.mean).mul_(1 + share[:, None] * training[:, None])
        return left.sub_(self._offset[place].mul_(weight[:, None]))


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


def _error_left_out(count: Tensor, within: Tensor, between: Tensor, shrinkage: float) -> float:
    """Sum of the squared errors of predicting each row by the shrunken mean of the others of its type.

    Args:
        count: rows n of each type, (num_types,) float64.
        within: sum of their squared distances to the mean of the type, W.
        between: squared distance of that mean to the overall mean, D.
        shrinkage: k.
    """
    # The sum over a type of |(1 + a) c - n a t|^2 (see `residual`), where the c have the mean t. A type with one row
    # is predicted by the overall mean whatever k is.
    n, w, b = (part[count > 1] for part in (count, within, between))
    return float((((n + shrinkage).square() * w + n * shrinkage**2 * b) / (n - 1 + shrinkage).square()).sum())
