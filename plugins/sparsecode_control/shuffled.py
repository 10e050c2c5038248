"""Other data, its dimensions shuffled."""

import torch
from torch import Tensor

from sparsecode_control.of_rows import OfRows, OfRowsSource
from sparsecode_pl.data import Source

_PERMUTATIONS = 21


class Shuffled(OfRows):
    """Every dimension of the measured data permuted over the rows, each on its own: marginals kept, features broken.

    The scored rows hold exactly the values of the data. With `stream`, each entry is drawn, with replacement, from the
    values of its dimension.

    Example:
        >>> from sparsecode_pl.data import TensorSource
        >>> source = TensorSource(torch.arange(20.0).repeat(2, 1).T)
        >>> rows = Shuffled().of(source).rows
        >>> bool((rows.sort(0).values == source.rows).all()), bool((rows[:, 0] == rows[:, 1]).all())
        (True, False)
    """

    rules_out = "Rules out that the values within each dimension make the score, such as a few large dimensions."

    def make(self, source: Source, num_samples: int, stream: bool) -> Source:
        """The shuffled rows.

        Raises:
            ValueError: `num_samples` was given and is not the number of rows of the source.
        """
        if num_samples != len(source.rows):
            raise ValueError(
                f"num_samples is {num_samples}, but {source.label} has {len(source.rows)} rows, and Shuffled has "
                "them all: leave num_samples out"
            )
        return ShuffledSource(source, self.label, num_samples, stream, self.seed)


class ShuffledSource(OfRowsSource):
    """The rows of a source, each dimension permuted on its own."""

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model)."""
        rows = self.source.rows[:]
        random = self.random(_PERMUTATIONS)
        return torch.stack([column[torch.randperm(len(column), generator=random)] for column in rows.T], dim=1)

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        rows = self.source.rows[:]
        return rows.gather(0, torch.randint(len(rows), (num, self.d_model), generator=random))
