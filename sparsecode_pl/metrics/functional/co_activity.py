"""Whether atoms are active together more often than by chance."""

import math

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes
from sparsecode_pl.utilities.seeding import generator


def co_activity_lift(codes: Tensor) -> Tensor:
    """How many times as strongly as by chance two atoms are active together: a sign of groups, trees and merged atoms.

    The lift of atoms i and j is mean(c_i c_j) / (mean(c_i) mean(c_j)), which is 1 if they are independent. The result
    is the mean over all pairs of atoms, each pair weighted by the sum of c_i c_j. Weights are from one half of the
    rows and lifts from the other (and the other way round), because pairs that met by chance in the same rows would
    have a large lift. So it answers: two atoms are seen together in a row; how many times as strongly as by chance are
    they active together in other rows? Coefficients, not counts, because small coefficients, of which there are many,
    are largely cross-talk of atoms that are not orthogonal.

    It is above 1 also where some rows have larger coefficients than others throughout, as heavy-tailed data have:
    compare it with controls. It is about 1 for independent features whose directions are alike.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR, in random order of the rows. Holds a matrix (n/2, n/2), so give
            a few thousand rows.

    Returns:
        0-dim float64 >= 0; NaN if no two atoms are active in one row of either half.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> together = torch.tensor([[2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).repeat(4, 1)  # two pairs, in turn
        >>> co_activity_lift(together)
        tensor(2., dtype=torch.float64)
        >>> co_activity_lift(torch.ones(8, 4))
        tensor(1., dtype=torch.float64)
    """
    whole = _matrix(codes)
    half = whole.shape[0] // 2
    pairs = [(whole[:half], whole[half : 2 * half]), (whole[half : 2 * half], whole[:half])]
    together, weight = (sum(parts) for parts in zip(*(_lift_and_weight(*pair) for pair in pairs), strict=True))
    return torch.tensor(together / weight if weight > 0 else math.nan, dtype=torch.float64)


def _lift_and_weight(weighing: csr_matrix, tested: csr_matrix) -> tuple[float, float]:
    """The sum over pairs of atoms of weight times lift, and the sum of the weights.

    With W and T the codes of the halves and s the sums of T's columns, the sum over all i, j of
    (W'W)_ij (T'T)_ij / (s_i s_j) is the squared norm of W diag(1/s) T', which is no larger however many atoms there
    are. The terms with i = j are taken away.
    """
    sums = np.asarray(tested.sum(axis=0)).ravel()
    used = sums > 0
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=used)
    weighing = weighing @ diags(used.astype(float))
    squares, tested_squares = (np.asarray(half.multiply(half).sum(axis=0)).ravel() for half in (weighing, tested))
    products = (weighing @ diags(scale) @ tested.T).data
    together = float((products**2).sum() - (squares * tested_squares * scale**2).sum())
    weight = float((np.asarray(weighing.sum(axis=1)) ** 2).sum() - squares.sum())
    return max(together, 0.0) * tested.shape[0], max(weight, 0.0)


def s1_over_independent(codes: Tensor) -> Tensor:
    """S_1 over that of the same coefficients if the atoms were independent of each other: 1 if they are.

    Each atom's coefficients are moved on by a number of rows of its own, so that its frequency and its sizes stay, and
    what it has to do with other atoms is lost. Above 1, some rows have many atoms and others few, as with groups and
    trees: the mean number of active atoms is as before, but fewer rows have a largest coefficient.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR, in random order of the rows.

    Returns:
        0-dim float64 > 0; NaN if all codes are zero.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> alike = (torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)) < 0.1).float().expand(-1, 3)
        >>> 2.5 < float(s1_over_independent(alike)) < 2.9  # S1 = 3, of independent ones 0.3 / (1 - 0.9 ** 3) = 1.1
        True
    """
    whole = _matrix(codes).tocoo()
    n, m = whole.shape
    shift = torch.randint(max(n, 1), (m,), generator=generator(0)).numpy()
    moved = csr_matrix((whole.data, ((whole.row + shift[whole.col]) % max(n, 1), whole.col)), shape=(n, m))
    largest, largest_moved = (float(each.max(axis=1).sum()) if n else 0.0 for each in (whole, moved))
    return torch.tensor(largest_moved / largest if largest > 0 else math.nan, dtype=torch.float64)


def _matrix(codes: Tensor) -> csr_matrix:
    check_codes(codes)
    codes = codes.detach().cpu()
    codes = codes if codes.layout == torch.sparse_csr else codes.to_sparse_csr()
    parts = (codes.values().double(), codes.col_indices(), codes.crow_indices())
    return csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(codes.shape))
