"""Other data, its dimensions shuffled."""

import torch
from torch import Tensor

from sparsecode_control.from_source import FromSource
from sparsecode_pl.data import ActivationDataModule

_PERMUTATIONS = 21


class Shuffled(FromSource):
    """Every dimension of its source permuted over the samples, each on its own: marginals kept, features broken.

    The scored rows hold exactly the source's values; with `stream` each entry is drawn, with replacement, from its
    dimension's values.

    Example:
        >>> from sparsecode_pl.data import TensorActivations
        >>> source = TensorActivations(torch.arange(20.0).repeat(2, 1).T)
        >>> rows = Shuffled(source).rows
        >>> bool((rows.sort(0).values == source.rows).all()), bool((rows[:, 0] == rows[:, 1]).all())
        (True, False)
    """

    def attach(self, source: ActivationDataModule) -> None:
        """Make this a control of `source`.

        Raises:
            ValueError: `num_samples` was given and is not the source's number of rows, or `d_model` not its width.
        """
        super().attach(source)
        if self.num_samples != len(source.rows):
            raise ValueError(
                f"num_samples is {self.num_samples}, but {source.label} has {len(source.rows)} rows, and Shuffled has "
                "them all: leave num_samples out"
            )

    def load(self) -> Tensor:
        """The rows that are scored, (num_samples, d_model)."""
        rows = self.needed_source.rows[:]
        random = self.random(_PERMUTATIONS)
        return torch.stack([column[torch.randperm(len(column), generator=random)] for column in rows.T], dim=1)

    def draw(self, num: int, random: torch.Generator) -> Tensor:
        """Fresh rows, (num, d_model)."""
        rows = self.needed_source.rows[:]
        return rows.gather(0, torch.randint(len(rows), (num, self.d_model), generator=random))
