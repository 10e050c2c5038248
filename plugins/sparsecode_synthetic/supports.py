"""Which features are active in a row."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsecode_pl.data import check_arguments

# Entries of a dense mask at a time.
_DENSE_ENTRIES = 2**24


@dataclass(frozen=True)
class Supports:
    """Random sets of active features: alike and independent, or with frequencies, groups and trees.

    The features form trees, one after the other: a tree has `tree_depth` levels, in which each feature has
    `tree_branching` children (the last tree may be cut off). With a depth of 1 each feature is a tree of its own.

    - Frequencies follow Zipf's law: the root of the tree of rank r = 1, 2, ... is active with a probability in
      proportion to r ** -zipf, or always if that is above 1.
    - Roots are independent or, with a `group_size` above 1, every so many in turn form a group: two of a group are
      active together `group_lift` times as often as if they were independent. For that a group is open in
      1 / group_lift of the rows, and its roots are active in these alone.
    - A child is active only with its parent, and then with probability `child_probability`, independently of all else.

    All probabilities are set so that `active` features are active on average.

    Args:
        num_features: number of features F.
        active: mean number of active features in a row, above 0.
        zipf: exponent of Zipf's law, at least 0; 0 gives all trees the same frequency.
        group_size: roots of a group; 1 for none.
        group_lift: how many times as often as by chance two roots of a group are active together, at least 1.
        tree_depth: levels of a tree; 1 for none.
        tree_branching: children of each feature above the last level, at least 1.
        child_probability: probability of a child given its parent, in (0, 1].

    Raises:
        ValueError: an argument is out of its range, or there cannot be so many active features.

    Example:
        >>> supports = Supports(num_features=6, active=1.5, tree_depth=2, tree_branching=2, child_probability=0.5)
        >>> supports.parents.tolist()  # two trees: 0 with 1 and 2, 3 with 4 and 5
        [-1, 0, 0, -1, 3, 3]
        >>> supports.probabilities.tolist()
        [0.375, 0.1875, 0.1875, 0.375, 0.1875, 0.1875]
    """

    num_features: int
    active: float
    zipf: float = 0.0
    group_size: int = 1
    group_lift: float = 1.0
    tree_depth: int = 1
    tree_branching: int = 4
    child_probability: float = 0.4

    def __post_init__(self) -> None:
        check_arguments(Supports, vars(self))
        for name in ("num_features", "group_size", "tree_depth", "tree_branching"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not 0 <= self.zipf < float("inf"):
            raise ValueError(f"zipf is {self.zipf}: give a finite exponent of at least 0")
        if not 1 <= self.group_lift < float("inf"):
            raise ValueError(f"group_lift is {self.group_lift}: give a finite number of at least 1")
        if (self.group_size > 1) != (self.group_lift > 1):
            raise ValueError(
                f"group_size is {self.group_size} and group_lift {self.group_lift:g}: give both above 1, or neither"
            )
        if not 0 < self.child_probability <= 1:
            raise ValueError(f"child_probability is {self.child_probability}: give a probability in (0, 1]")
        most = float(self._sizes.sum())
        if not 0 < self.active <= most:
            what = f"num_features, {most:g}" if self.tree_depth == 1 else f"{most:g}, the most that such trees have"
            raise ValueError(f"active is {self.active}: give a number above 0 and at most {what}")
        largest = float(self.probabilities.max())
        if self.group_lift * largest > 1 + 1e-9:
            raise ValueError(
                f"group_lift is {self.group_lift:g}, but the most frequent feature is active in {largest:.3g} of the "
                f"rows: give at most {1 / largest:.4g}, or less zipf or active"
            )

    @property
    def label(self) -> str:
        """What differs from alike and independent features, in words."""
        words = []
        if self.zipf:
            words.append(f"zipf {self.zipf:g}")
        if self.group_size > 1:
            words.append(f"groups of {self.group_size} with lift {self.group_lift:g}")
        if self.tree_depth > 1:
            words.append(f"trees {self.tree_branching}^{self.tree_depth - 1} at {self.child_probability:g}")
        return ", ".join(words)

    @cached_property
    def parents(self) -> Tensor:
        """The parent of each feature, -1 for roots, (num_features,) int64."""
        tree, place = self._places
        size = sum(self.tree_branching**level for level in range(self.tree_depth))
        return torch.where(place > 0, tree * size + (place - 1) // self.tree_branching, -1)

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """The tree of each feature, and its number in the tree, level by level."""
        number = torch.arange(self.num_features)
        size = sum(self.tree_branching**level for level in range(self.tree_depth))
        return number // size, number % size

    @cached_property
    def _levels(self) -> Tensor:
        """The level of each feature, 0 for roots, (num_features,) int64."""
        starts = torch.tensor([self.tree_branching**level for level in range(self.tree_depth - 1)]).cumsum(0)
        return torch.bucketize(self._places[1], starts, right=True)

    @cached_property
    def _sizes(self) -> Tensor:
        """The mean number of active features of each tree whose root is active, (trees,) float64."""
        tree = self._places[0]
        given_root = self.child_probability ** self._levels.double()
        return torch.zeros(int(tree[-1]) + 1, dtype=torch.float64).index_add(0, tree, given_root)

    @cached_property
    def _roots(self) -> Tensor:
        """The probability of each root, (trees,) float64."""
        weights = torch.arange(1, len(self._sizes) + 1, dtype=torch.float64) ** -self.zipf
        always = torch.zeros(len(weights), dtype=torch.bool)
        while True:  # what is cut off at 1 is made up for by the others, of which more may then reach 1
            left = self.active - float(self._sizes[always].sum())
            roots = left * weights / (weights * self._sizes)[~always].sum()
            above = (roots > 1) & ~always
            if not above.any():
                return torch.where(always, 1.0, roots)
            always |= above

    @cached_property
    def probabilities(self) -> Tensor:
        """The share of the rows in which each feature is active, (num_features,) float64."""
        return self._roots[self._places[0]] * self.child_probability ** self._levels.double()

    def draw(self, num: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sets of active features, drawn so many rows at a time that no mask is large.

        Returns:
            The number of active features of each row, (num,), and the features, row by row and ascending, both int64.
        """
        chunk = max(1, _DENSE_ENTRIES // self.num_features)
        counts = torch.empty(num, dtype=torch.int64)  # taken first: more rows than memory holds fail at once
        columns = []
        for part in counts.split(chunk):
            mask = self._draw(len(part), random)
            part.copy_(mask.sum(1))
            columns.append(mask.nonzero()[:, 1])
        return counts, torch.cat(columns)

    def _draw(self, num: int, random: torch.Generator) -> Tensor:
        """A mask of active features, (num, num_features)."""
        given = torch.where(self.parents < 0, self.probabilities * self.group_lift, self.child_probability)
        mask = torch.rand(num, self.num_features, generator=random) < given.float()
        if self.group_size > 1:
            roots = (self.parents < 0).nonzero()[:, 0]
            group = torch.arange(len(roots)) // self.group_size
            open_groups = torch.rand(num, int(group[-1]) + 1, generator=random) < 1 / self.group_lift
            mask[:, roots] &= open_groups[:, group]
        for level in range(1, self.tree_depth):
            children = (self._levels == level).nonzero()[:, 0]
            mask[:, children] &= mask[:, self.parents[children]]
        return mask
