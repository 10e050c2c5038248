"""Statistics of codes that need whole rows, on a random sample of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from sparsecode_pl.metrics.functional._codes import check_codes
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.ranks import rank
from sparsecode_pl.utilities.seeding import generator


class SampledCodes(Metric):
    """A statistic of a uniform random sample of the codes, in random order, however many rows there are.

    `update` takes `codes`, coefficients >= 0, (n, num_atoms), dense or CSR, raises ValueError for anything else, and
    keeps those rows that have drawn the smallest numbers. Memory is bounded by `num_rows` rows in each process, and
    the statistic is of so many of all processes. Each process must have been given at least one batch.

    Args:
        statistic: of codes, (at most num_rows, num_atoms) CSR, one number.
        num_atoms: m, the number of atoms.
        num_rows: rows of the sample.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: num_atoms or num_rows is below 1.

    Example:
        >>> metric = SampledCodes(lambda codes: codes.values().mean(), num_atoms=2, num_rows=1)
        >>> metric.update(codes=torch.full((100, 2), 3.0).to_sparse_csr())
        >>> metric.compute()
        tensor(3.)
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    keys: list[Tensor]
    counts: list[Tensor]
    atoms: list[Tensor]
    values: list[Tensor]

    def __init__(
        self, statistic: Callable[[Tensor], Tensor], num_atoms: int, num_rows: int = 4096, **kwargs: Any
    ) -> None:
        check_arguments(SampledCodes.__init__, locals())
        super().__init__(**kwargs)
        for name, value in (("num_atoms", num_atoms), ("num_rows", num_rows)):
            if value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        self.statistic = statistic
        self.num_atoms = num_atoms
        self.num_rows = num_rows
        self._batches = 0
        for name in ("keys", "counts", "atoms", "values"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, codes: Tensor) -> None:
        """Draw a number for each row of a batch, and keep the rows with the smallest."""
        check_codes(codes)
        if codes.shape[1] != self.num_atoms:
            raise ValueError(
                f"codes have {codes.shape[1]} columns, but num_atoms is {self.num_atoms}: give the codes of that "
                "dictionary"
            )
        codes = codes if codes.layout == torch.sparse_csr else codes.to_sparse_csr()
        keys = torch.rand(len(codes), generator=generator(0, rank(), self._batches), dtype=torch.float64).to(
            codes.device
        )
        self._batches += 1
        counts = codes.crow_indices().diff()
        if self.keys:
            keys, counts = torch.cat([self.keys[0], keys]), torch.cat([self.counts[0], counts])
            atoms, values = torch.cat([self.atoms[0], codes.col_indices()]), torch.cat([self.values[0], codes.values()])
        else:
            atoms, values = codes.col_indices(), codes.values()
        if len(keys) > self.num_rows:
            kept = keys <= keys.kthvalue(self.num_rows).values
            entries = kept.repeat_interleave(counts)
            keys, counts, atoms, values = keys[kept], counts[kept], atoms[entries], values[entries]
        self.keys, self.counts, self.atoms, self.values = [keys], [counts], [atoms], [values]

    def compute(self) -> Tensor:
        """The statistic of the sample."""
        keys, counts, atoms, values = (
            dim_zero_cat(state).cpu() for state in (self.keys, self.counts, self.atoms, self.values)
        )
        order = keys.argsort(stable=True)[: self.num_rows]
        starts, lengths = (counts.cumsum(0) - counts)[order], counts[order]
        crow = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        # The entry k of the sample's row r is the entry starts[r] + k of all.
        entries = torch.arange(int(crow[-1])) + (starts - crow[:-1]).repeat_interleave(lengths)
        shape = (len(order), self.num_atoms)
        return self.statistic(
            torch.sparse_csr_tensor(crow, atoms[entries], values[entries], shape, check_invariants=False)
        )

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._batches = 0
