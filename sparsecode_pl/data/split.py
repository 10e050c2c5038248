"""Which rows are trained on, which are held out, and which are of token types never trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.data.distinct import distinct_rows
from sparsecode_pl.data.rows import Rows
from sparsecode_pl.utilities.row_kinds import ROWS
from sparsecode_pl.utilities.seeding import generator

#: The columns of text that decide the split unless others are named.
DOCUMENT, TOKEN = "document", "token_id"
#: As `heldout_by`, the name for single rows.
SINGLE_ROWS = "rows"
#: Groups are dealt into at most so many buckets, the units in which intervals resample.
BUCKETS = 1024

_SPLIT, _UNSEEN, _BUCKETS = 0, 4, 5  # streams of random numbers
# With fewer types than these, a few would be all that is known of unseen tokens.
_FEWEST_TYPES = 20
# A type with more than this share of the rows of unseen tokens stays in training.
_LARGEST_TYPE = 0.1

Column = Sequence[str] | Tensor


@dataclass(frozen=True)
class Split:
    """A division of rows, in which rows that are equal bit by bit are never on two sides.

    Attributes:
        rows: row numbers by kind, ascending, int64, in the order of `ROWS`; kinds without rows are left out.
        buckets: for each row the bucket of its group, (n,) int64, in [0, `BUCKETS`), the units that intervals resample.
            Groups are documents or what else is held out as a whole, and, for unseen tokens, token types. Each kind of
            rows is dealt on its own.
        groups: for each row the number of what is held out as a whole, such as its document, (n,) int64; each row has
            its own where single rows are held out.
        num_distinct: number of rows that differ from each other.
        distinct_trained: number of training rows that differ from each other.
        num_types: number of token types; None without a column of them.
        types_trained: number of token types among the training rows; None without a column of them.
        seen_share: share of the rows outside of the training groups whose token type was trained on; None without a
            column of types.
        copies: number of rows that are left out, because they equal rows of a kind before theirs.
        heldout_is_unseen: whether every held-out row is of a token type that was not trained on.
    """

    rows: dict[str, Tensor]
    buckets: Tensor
    groups: Tensor
    num_distinct: int
    distinct_trained: int
    num_types: int | None = None
    types_trained: int | None = None
    seen_share: float | None = None
    copies: int = 0
    heldout_is_unseen: bool = False

    @property
    def facts(self) -> dict[str, float]:
        """What a record tells of the rows, by name."""
        facts: dict[str, float | None] = {
            "num_distinct": self.num_distinct,
            "num_types": self.num_types,
            "heldout_seen_share": self.seen_share,
            "num_copies": self.copies,
        }
        return {name: value for name, value in facts.items() if value is not None}


def split_rows(
    rows: Rows,
    columns: Mapping[str, Column],
    *,
    val_split: float,
    unseen_split: float,
    heldout_by: str | None,
    unseen_by: str | None,
    seed: int,
    known_types: Callable[[Tensor], Column | None] | None = None,
) -> Split:
    """Divide rows into those to train on, held-out rows, and rows of unseen tokens.

    Unseen tokens are drawn first: token types at random, until they have `unseen_split` of the rows. Types with more
    than a tenth of that stay in training. Then whole groups (documents, or else rows) are held out at random, until
    they have `val_split` of the rows. What remains is for training. A row of a held-out group whose type was not
    trained on is one of an unseen token, too. A held-out row that equals a training row is left out.

    If there are no documents, and each type has only one distinct row, as in a table of embeddings, held-out rows are
    unseen tokens already, and no others are drawn.

    Args:
        rows: all rows, (n, d_model).
        columns: their columns.
        val_split: share of the rows that is held out, in [0, 1); with 0 all rows are for training.
        unseen_split: share of the rows that is of unseen tokens, in [0, 1); with 0 types are not looked at.
        heldout_by: column whose values are held out as a whole, "document" if None and there is one, or "rows".
        unseen_by: column of the token types; "token_id" if None, and if there is one.
        seed: of the split.
        known_types: gives the types that are trained on apart from these rows, as in a stream, for the groups that
            are held out, as a mask of their rows, (n,) bool; None if only rows are trained on.

    Raises:
        ValueError: a column is not there or has only one value, there are fewer than 20 types, or a side is empty.
    """
    n = len(rows)
    classes = distinct_rows(rows)
    num_classes = int(classes.max()) + 1
    if num_classes == 1:
        raise ValueError(f"all {n} rows are equal: give others")
    units, by_rows = _units(columns, heldout_by, classes)
    kinds = _types(columns, unseen_by, least=2 if unseen_split > 0 else 1)
    num_types = None if kinds is None else int(kinds.max()) + 1
    groups = torch.arange(n) if by_rows else units
    if val_split == 0:
        everything = {"train": torch.arange(n)}
        buckets = _buckets(units, kinds, everything, seed)
        return Split(everything, buckets, groups, num_classes, num_classes, num_types, num_types)

    alone = kinds is not None and by_rows and _one_class_each(kinds, classes)
    unseen = torch.zeros(n, dtype=torch.bool)
    draws = kinds is not None and unseen_split > 0 and not alone
    if kinds is not None and draws:
        sizes = kinds.bincount()
        if len(sizes) < _FEWEST_TYPES:
            raise ValueError(
                f"unseen_by is {(unseen_by or TOKEN)!r}, a column with {len(sizes)} values, and unseen tokens take at "
                f"least {_FEWEST_TYPES}: give more rows, or unseen_split 0"
            )
        asked = max(1, round(n * unseen_split))
        unseen = _draw(sizes, asked, _LARGEST_TYPE * asked, generator(seed, _UNSEEN))[kinds]
    asked = min(round(n * val_split), n - 1)
    if asked == 0:
        raise ValueError(f"val_split is {val_split}, and so holds out none of {n} rows: raise it or set it to 0")
    # A row with many copies stays in training, for the held-out rows would mostly be this one.
    sizes = units.bincount()
    held = _draw(sizes, asked, max(1.0, _LARGEST_TYPE * asked) if by_rows else asked, generator(seed, _SPLIT))[units]
    if not by_rows:
        _check_share(float(held.double().mean()), val_split, held_out_by(columns, heldout_by), len(sizes))
    train = ~held & ~unseen
    _check_side(train, "training", val_split, unseen_split, heldout_by)
    seen_share, types_trained = None, None
    if kinds is not None:
        trained = torch.zeros(int(kinds.max()) + 1, dtype=torch.bool)
        trained[kinds[train]] = True
        types_trained = int(trained.sum())
        known = None if known_types is None else known_types(held)
        if known is not None:
            trained |= _known(columns[unseen_by or TOKEN], known)
            trained[kinds[unseen]] = False
        seen = trained[kinds]
        seen_share = float(seen[held].double().mean())
        if draws:
            unseen |= held & ~seen
    heldout = held & ~unseen
    heldout_new = heldout & ~_among(classes, train)
    unseen_new = unseen & ~_among(classes, train | heldout_new)
    copies = int((heldout & ~heldout_new).sum() + (unseen & ~unseen_new).sum())
    if not unseen_new.any():  # then a fit without held-out rows would have nothing to hold its scores against
        _check_side(heldout_new, "held-out", val_split, unseen_split, heldout_by)
    masks = zip(ROWS, (train, heldout_new, unseen_new), strict=True)
    index = {kind: mask.nonzero().flatten() for kind, mask in masks if mask.any()}
    return Split(
        rows=index,
        buckets=_buckets(units, kinds, index, seed),
        groups=groups,
        num_distinct=num_classes,
        distinct_trained=len(classes[train].unique()),
        num_types=num_types,
        types_trained=types_trained,
        seen_share=seen_share,
        copies=copies,
        heldout_is_unseen=alone,
    )


def follow(split: Split, rows: Rows) -> Split:
    """The split of one data set for as many rows of another, such as of a control.

    A row that equals one of a kind before its own is left out here, too.

    Args:
        split: of the first.
        rows: those of the other, (n, d_model).
    """
    classes = distinct_rows(rows)
    before = torch.zeros(len(rows), dtype=torch.bool)
    index: dict[str, Tensor] = {}
    for kind, taken in split.rows.items():
        new = taken[~_among(classes, before)[taken]] if before.any() else taken
        before[taken] = True
        if len(new):
            index[kind] = new
    return replace(
        split,
        rows=index,
        num_distinct=int(classes.max()) + 1,
        distinct_trained=len(classes[index["train"]].unique()),
        copies=split.copies + sum(map(len, split.rows.values())) - sum(map(len, index.values())),
    )


def same_columns(one: Mapping[str, Column], other: Mapping[str, Column]) -> bool:
    """Whether columns have the same names and entries."""
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _equal(one: Column, other: Column) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return one == other
    return np.array_equal(one, other)  # they are not checked yet


def column(columns: Mapping[str, Column], name: str, argument: str, least: int = 2) -> Tensor:
    """A column as numbers of its distinct values, (n,) int64.

    Args:
        columns: all columns.
        name: the one that is wanted.
        argument: who asks for it, for the message.
        least: number of distinct values that it must have.

    Raises:
        ValueError: it is not there, or has fewer values.
    """
    cure = f", or {SINGLE_ROWS!r} to hold out single rows" if argument == "heldout_by" else ""
    if name not in columns:
        there = ", ".join(columns) or "none at all"
        raise ValueError(f"{argument} is {name!r}, but the columns of the rows are {there}: give one of them{cure}")
    found = columns[name]
    values = found if isinstance(found, Tensor) else torch.from_numpy(np.unique(found, return_inverse=True)[1])
    numbers: Tensor
    distinct, numbers = torch.unique(values, return_inverse=True)
    if len(distinct) < least:
        raise ValueError(
            f"{argument} is {name!r}, a column with the same value in all rows: give another column"
            f"{cure or ', or rows of more than one'}"
        )
    return numbers


def held_out_by(columns: Mapping[str, Column], heldout_by: str | None) -> str:
    """The column whose values are held out as a whole, or "rows"."""
    if heldout_by is not None:
        return heldout_by
    return DOCUMENT if DOCUMENT in columns else SINGLE_ROWS


def _units(columns: Mapping[str, Column], heldout_by: str | None, classes: Tensor) -> tuple[Tensor, bool]:
    """The group of each row, and whether groups are single rows (with their copies)."""
    name = held_out_by(columns, heldout_by)
    if name == SINGLE_ROWS:
        return classes, True
    return column(columns, name, "heldout_by"), False


def _types(columns: Mapping[str, Column], unseen_by: str | None, least: int) -> Tensor | None:
    if unseen_by is None and TOKEN not in columns:
        return None
    return column(columns, unseen_by or TOKEN, "unseen_by", least)


def _known(values: Column, known: Column) -> Tensor:
    """Which values of a column, ascending, are among some others."""
    return torch.from_numpy(np.isin(np.unique(values), known))


def _one_class_each(kinds: Tensor, classes: Tensor) -> bool:
    """Whether all rows of a type are equal, for each type."""
    pairs = torch.stack([kinds, classes]).unique(dim=1)
    return len(pairs.T) == int(kinds.max()) + 1


def _draw(sizes: Tensor, room: int, largest: float, random: torch.Generator) -> Tensor:
    """Draw groups at random that fill some room, as far as they fit.

    Args:
        sizes: rows of each group.
        room: rows wanted.
        largest: groups with more rows are not drawn, unless there are no others: then the smallest one is.
        random: what they are drawn with.

    Returns:
        Whether each group was drawn.
    """
    drawn = torch.zeros(len(sizes), dtype=torch.bool)
    order = torch.randperm(len(sizes), generator=random)
    order = order[sizes[order] <= largest]
    if len(order) == 0:
        drawn[sizes.argmin()] = True
    while len(order := order[sizes[order] <= room]):
        filled = sizes[order].cumsum(0)
        count = int(torch.searchsorted(filled, room, right=True))
        drawn[order[:count]] = True
        room -= int(filled[count - 1])
        order = order[count:]
    return drawn


def _among(classes: Tensor, some: Tensor) -> Tensor:
    """Which rows equal one of some rows."""
    there = torch.zeros(int(classes.max()) + 1, dtype=torch.bool)
    there[classes[some]] = True
    return there[classes]


def _buckets(units: Tensor, kinds: Tensor | None, index: Mapping[str, Tensor], seed: int) -> Tensor:
    """Deal the groups of each kind of rows into buckets of nearly equal numbers of groups.

    Unseen tokens are dealt by type: what varies most from one sample of them to another is which types it has.
    """
    buckets = torch.zeros(len(units), dtype=torch.int64)
    for number, (name, rows) in enumerate(index.items()):
        by = kinds if name == "unseen" and kinds is not None else units
        _, group = by[rows].unique(return_inverse=True)
        order = torch.randperm(int(group.max()) + 1, generator=generator(seed, _BUCKETS, number))
        buckets[rows] = order[group] % BUCKETS
    return buckets


def _check_share(share: float, val_split: float, name: str, num_groups: int) -> None:
    """Warn if the groups are too few to hold out about what was asked for."""
    if not val_split / 2 <= share <= 2 * val_split:
        rank_zero_warn(
            f"val_split is {val_split:g}, but {share:.0%} of the rows are held out, because column {name!r} has only "
            f"{num_groups:,} values, which are held out as a whole: give rows of more values, or heldout_by "
            f"{SINGLE_ROWS!r} to hold out single rows"
        )


def _check_side(side: Tensor, name: str, val_split: float, unseen_split: float, heldout_by: str | None) -> None:
    if not side.any():
        raise ValueError(
            f"no {name} rows are left with val_split {val_split}, unseen_split {unseen_split} and heldout_by "
            f"{heldout_by!r}: hold out less, hold out by another column, or give more different rows"
        )
