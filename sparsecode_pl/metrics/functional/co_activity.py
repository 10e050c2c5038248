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

    Of each row the shares p = c / sum(c) are taken, so that rows with large coefficients, which heavy-tailed data have,
    make no difference. The lift of atoms i and j is mean(p_i p_j) / (mean(p_i) mean(p_j)). Its mean over all pairs,
    each weighted by the sum of p_i p_j, answers: two atoms are seen together in a row; how many times as strongly as by
    chance are they active together in other rows? Weights are from one half of the rows and lifts from the other (and
    the other way round), because pairs that met by chance in the same rows would have a large lift. The result is this
    mean over that of the same atoms made independent (see `s1_over_independent`), which is a little below 1, because
    the shares of a row add up to 1.

    It is 1 for independent atoms, also where their directions are alike. Shares are used, not counts, because small
    coefficients, of which there are many, are largely cross-talk of atoms that are not orthogonal.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR, in random order of the rows. Holds a matrix (n/2, n/2), so give
            a few thousand rows.

    Returns:
        0-dim float64 >= 0; NaN if no two atoms are active in one row of either half.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR.

    Example:
        >>> active = torch.rand(2000, 20, generator=torch.Generator().manual_seed(0)) < 0.3
        >>> float(co_activity_lift(active.float()))  # doctest: +ELLIPSIS
        1.0...
        >>> pairs = active[:, :10].repeat(1, 2)  # each atom has a partner that is always active with it
        >>> float(co_activity_lift(pairs.float())) > 1.2
        True
    """
    shares = _shares(_matrix(codes))
    chance = _lift(_shares(_independent(shares)))
    return torch.tensor(_lift(shares) / chance if chance > 0 else math.nan, dtype=torch.float64)


def _lift(codes: csr_matrix) -> float:
    """The mean lift of the pairs of atoms, weights and lifts from different halves of the rows; NaN without pairs."""
    half = codes.shape[0] // 2
    one, other = codes[:half], codes[half : 2 * half]
    parts = [_lift_and_weight(one, other), _lift_and_weight(other, one)]
    weight = sum(weight for _, weight in parts)
    return sum(together for together, _ in parts) / weight if weight > 0 else math.nan


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
    what it has to do with other atoms is lost. Above 1, some rows have many or large coefficients and others few or
    small ones, as with groups and trees, but also with heavy tails: all coefficients are as before, but fewer rows have
    a large one.

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
    whole = _matrix(codes)
    if not whole.nnz:
        return torch.tensor(math.nan, dtype=torch.float64)
    largest, largest_moved = (float(each.max(axis=1).sum()) for each in (whole, _independent(whole)))
    return torch.tensor(largest_moved / largest, dtype=torch.float64)


def _independent(codes: csr_matrix) -> csr_matrix:
    """The codes with each column moved on, in a circle, by a random number of rows of its own."""
    (n, m), entries = codes.shape, codes.tocoo()
    shift = torch.randint(max(n, 1), (m,), generator=generator(0)).numpy()
    return csr_matrix((entries.data, ((entries.row + shift[entries.col]) % max(n, 1), entries.col)), shape=(n, m))


def _shares(codes: csr_matrix) -> csr_matrix:
    """The codes with each row, unless it is empty, divided by its sum."""
    sums = np.asarray(codes.sum(axis=1)).ravel()
    return csr_matrix(diags(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)) @ codes)


def _matrix(codes: Tensor) -> csr_matrix:
    """Codes as a SciPy matrix of float64, without stored zeros."""
    check_codes(codes)
    codes = codes.detach().cpu()
    codes = codes if codes.layout == torch.sparse_csr else codes.to_sparse_csr()
    parts = (codes.values().double(), codes.col_indices(), codes.crow_indices())
    matrix = csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(codes.shape))
    matrix.eliminate_zeros()
    return matrix
