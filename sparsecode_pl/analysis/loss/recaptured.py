"""Rows that are captured again, to find out whether the model is still the one that they come from."""

import torch
from torch import Tensor

from sparsecode_pl.data import Passage, Rerun, Source

# How far rows may be from what they were, relatively, by the precision that they have: that of the store, or of the
# model. Batches, padding and devices make a difference of a few roundings; another model makes one of about 1.
_TOLERANCES = {torch.bfloat16: 0.05, torch.float16: 0.02, torch.float32: 0.005}
# Columns that tell rows of a text apart, as far as there are such.
_DOCUMENT, _TOKEN, _POSITION = "document", "token_id", "position"


class Recaptured:
    """Some activations as the model gives them now, each with its document, token and position in its sequence."""

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, rerun: Rerun, passage: Passage, documents: Tensor) -> None:
        """Run the model on a passage, and keep the activations of some documents, (k,) int64, in it."""
        taken: list[Tensor] = []

        def take(x: Tensor) -> Tensor:
            taken.append(x.detach().cpu().float())
            return x

        rerun(passage, take)
        place = torch.arange(passage.input_ids.shape[1]).expand_as(passage.input_ids)
        parts = (passage.document, passage.input_ids, place)
        keys = torch.stack([part[passage.replaced].long() for part in parts], dim=1)
        wanted = torch.isin(keys[:, 0], documents)
        self._keys.append(keys[wanted])
        self._rows.append(torch.cat(taken)[wanted])

    def check(self, source: Source) -> None:
        """Compare them with the rows of a source. Rows that cannot be told apart are left out.

        Raises:
            ValueError: half of them or more are not what they were.
        """
        columns = source.checked_columns
        names = [name for name in (_DOCUMENT, _TOKEN, _POSITION) if isinstance(columns.get(name), Tensor)]
        if not self._keys or len(names) < 2:
            return
        keys = torch.cat(self._keys)[:, : len(names)]
        numbers = torch.stack([torch.as_tensor(columns[name]).long() for name in names], dim=1)
        index = torch.isin(numbers[:, 0], keys[:, 0]).nonzero().flatten()
        stored, again = _pairs(numbers[index], keys)
        if len(stored) == 0:
            return
        before, now = source.rows[index[stored]].float().cpu(), torch.cat(self._rows)[again]
        norms = torch.linalg.vector_norm(before, dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        apart = float((torch.linalg.vector_norm(now - before, dim=1) / norms).median())
        tolerance = _TOLERANCES[precision_of(before)]
        if not apart <= tolerance:
            raise ValueError(
                f"loss is true, but the model that {source.label} comes from gives other activations now: half of "
                f"{len(stored):,} rows are {apart:.1%} or more away from what they were, and {tolerance:.1%} can be "
                "rounding. The model has changed: leave loss out, or capture the activations anew"
            )


def precision_of(rows: Tensor) -> torch.dtype:
    """The coarsest dtype that holds rows exactly.

    Example:
        >>> precision_of(torch.tensor([0.5, 1 / 3])), precision_of(torch.tensor([0.5, 1 / 3]).half().float())
        (torch.float32, torch.float16)
    """
    coarser = (torch.bfloat16, torch.float16)
    return next((dtype for dtype in coarser if torch.equal(rows.to(dtype).to(rows.dtype), rows)), torch.float32)


def _pairs(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of equal rows of two tables of whole numbers, (n, c) and (k, c), that stand once in each."""
    _, which, counts = torch.cat([one, other]).unique(dim=0, return_inverse=True, return_counts=True)
    first, second = which[: len(one)], which[len(one) :]
    size = len(counts)
    once = (torch.bincount(first, minlength=size) == 1) & (torch.bincount(second, minlength=size) == 1)
    mine, theirs = once[first].nonzero().flatten(), once[second].nonzero().flatten()
    return mine[first[mine].argsort()], theirs[second[theirs].argsort()]
