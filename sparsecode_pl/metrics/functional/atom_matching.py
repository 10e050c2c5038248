"""Which learnt atom stands for which true one, if no atom may stand for two."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.utilities.arguments import check_arguments, check_tensor
from sparsecode_pl.utilities.seeding import generator


class AtomMatching(NamedTuple):
    """The best one-to-one matching of two sets of atoms.

    Attributes:
        atoms: number of the learnt atom that is matched to each true one, (f,) int64; -1 where there are too few.
        cosines: their cosine similarities, (f,) float64; 0 where there is no atom.
    """

    atoms: Tensor
    cosines: Tensor

    @property
    def mean_cosine(self) -> Tensor:
        """Mean cosine similarity over the true atoms, 0-dim float64 in [-1, 1]."""
        return self.cosines.mean()


def match_atoms(true_atoms: Tensor, atoms: Tensor) -> AtomMatching:
    """Match learnt atoms to true ones, one to one, with the largest possible sum of cosine similarities.

    In contrast to `atom_recovery`, an atom that lies between several true ones counts for one of them only. Holds the
    similarities of all pairs, 8 f m bytes.

    Args:
        true_atoms: planted features, (f, d); rows of any length but 0.
        atoms: learnt atoms, (m, d); a row of zeros is like nothing.

    Raises:
        ValueError: the shapes do not fit, or values are not finite.

    Example:
        >>> true_atoms = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> matching = match_atoms(true_atoms, torch.tensor([[0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]]))
        >>> matching.atoms.tolist(), round(float(matching.mean_cosine), 3)
        ([1, 0], 0.8)
    """
    for name, given in (("true_atoms", true_atoms), ("atoms", atoms)):
        check_tensor(given, name, floating=True)
        if not torch.isfinite(given).all():
            raise ValueError(f"{name} have values that are NaN or infinite: drop these rows, or find their cause")
    if true_atoms.ndim != 2 or atoms.ndim != 2 or true_atoms.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"true_atoms have shape {tuple(true_atoms.shape)} and atoms {tuple(atoms.shape)}: give matrices (f, d) "
            "and (m, d) of the same width"
        )
    true, learnt = (normalize(each.detach().cpu().double(), eps=1e-300) for each in (true_atoms, atoms))
    similarities = true @ learnt.T
    rows, columns = (torch.from_numpy(each) for each in linear_sum_assignment(similarities.numpy(), maximize=True))
    matched = torch.full((len(true),), -1).index_put((rows,), columns)
    cosines = torch.zeros(len(true), dtype=torch.float64).index_put((rows,), similarities[rows, columns])
    return AtomMatching(matched, cosines)


def matching_by_chance(true_atoms: Tensor, num_atoms: int, seed: int = 0) -> AtomMatching:
    """The matching of true atoms with an untrained dictionary: random directions, uniform on the sphere.

    Args:
        true_atoms: planted features, (f, d).
        num_atoms: m, the number of random atoms.
        seed: of the random atoms.

    Raises:
        ValueError: true_atoms are no matrix, or there are no random atoms.

    Example:
        >>> float(matching_by_chance(torch.eye(16), num_atoms=64).mean_cosine)  # doctest: +ELLIPSIS
        0.5...
    """
    check_arguments(matching_by_chance, locals())
    if num_atoms < 1 or true_atoms.ndim != 2:
        raise ValueError(
            f"num_atoms is {num_atoms}, and true_atoms have shape {tuple(true_atoms.shape)}: give at least 1, and a "
            "matrix (f, d)"
        )
    return match_atoms(true_atoms, torch.randn(num_atoms, true_atoms.shape[1], generator=generator(seed)))


class AtomStability(NamedTuple):
    """How alike dictionaries are that were learnt from different seeds.

    Attributes:
        mean_cosine: mean cosine similarity of matched atoms, over all pairs of dictionaries, 0-dim float64.
        chance: the same for random directions.
    """

    mean_cosine: Tensor
    chance: Tensor


def atom_stability(dictionaries: Sequence[Tensor], seed: int = 0) -> AtomStability:
    """How alike dictionaries are, such as those of several seeds: each pair matched one to one.

    Atoms that depend on the seed say little about the data. The chance level is that of atoms uniform on the sphere;
    data that lie near few directions have a higher one. Matching m with m atoms holds 8 m^2 bytes, and takes seconds
    for a few thousand.

    Args:
        dictionaries: at least two, each (m, d); m may differ, d may not.
        seed: of the random directions.

    Raises:
        ValueError: there are fewer than two, or they differ in width.

    Example:
        >>> one = torch.eye(3)
        >>> float(atom_stability([one, one[[2, 0, 1]]]).mean_cosine)  # the same atoms in another order
        1.0
    """
    check_arguments(atom_stability, locals())
    if len(dictionaries) < 2:
        raise ValueError(f"dictionaries are {len(dictionaries)}: give at least two, such as those of several seeds")
    for number, atoms in enumerate(dictionaries):
        check_tensor(atoms, f"dictionaries[{number}]", floating=True)
        if atoms.ndim != 2 or len(atoms) == 0:
            raise ValueError(f"dictionaries[{number}] has shape {tuple(atoms.shape)}: give a matrix (m, d)")
    # The smaller one first, so that each of its atoms has a partner.
    pairs = [sorted(pair, key=len) for pair in combinations(dictionaries, 2)]
    found = [match_atoms(one, other).mean_cosine for one, other in pairs]
    random = generator(seed)
    one, other = (torch.randn(atoms.shape, generator=random) for atoms in pairs[0])
    return AtomStability(torch.stack(found).mean(), match_atoms(one, other).mean_cosine)
