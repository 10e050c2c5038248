"""Whether the right atoms are active."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes
from sparsecode_pl.utilities.arguments import check_tensor


class SupportScore(NamedTuple):
    """How well the active atoms agree with the active features.

    Attributes:
        precision: share of the active atoms whose feature is active, 0-dim float64 in [0, 1]; NaN if no atom is active.
        recall: share of the active features whose atom is active, 0-dim float64 in [0, 1]; NaN if no feature is.
    """

    precision: Tensor
    recall: Tensor


def support_recovery(true_codes: Tensor, codes: Tensor, matched: Tensor) -> SupportScore:
    """Precision and recall of the set of active features, over all rows together.

    Only atoms that stand for a feature are looked at. In a dictionary with more atoms than features, what the others
    do shows in the number of active atoms.

    Args:
        true_codes: the codes that the rows were made from, (n, f), dense or CSR.
        codes: the codes found, (n, m), dense or CSR.
        matched: number of the atom that stands for each feature, (f,) int64, -1 if none does; see `match_atoms`.

    Raises:
        ValueError: the codes are not float matrices of as many rows, or `matched` does not fit them.

    Example:
        >>> true_codes = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
        >>> codes = torch.tensor([[0.9, 0.0, 0.0], [0.0, 1.9, 0.2]])  # atoms 0, 1, 2 stand for features 0, 1, none
        >>> score = support_recovery(true_codes, codes, torch.tensor([0, 1, -1]))
        >>> float(score.precision), float(score.recall)
        (1.0, 0.5)
    """
    check_codes(true_codes)
    check_codes(codes)
    (n, f), m = true_codes.shape, codes.shape[1]
    if len(codes) != n:
        raise ValueError(f"codes have {len(codes)} rows, and true_codes {n}: give the codes of the same rows")
    check_tensor(matched, "matched")
    if matched.shape != (f,) or matched.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"matched is {matched.dtype} of shape {tuple(matched.shape)}: give int64 of shape ({f},)")
    matched = matched.cpu().long()
    atoms = matched[matched >= 0]
    if int(matched.max()) >= m:
        raise ValueError(
            f"matched has values up to {int(matched.max())}: give the number of one of the {m} atoms, or -1, for each "
            f"of {f} features"
        )
    if len(atoms.unique()) < len(atoms):
        raise ValueError(f"matched is {matched.tolist()}: give each atom once, so that it stands for one feature")
    feature = torch.full((m,), -1)
    known = (matched >= 0).nonzero()[:, 0]
    feature[matched[known]] = known
    row, atom = _active(codes)
    found = feature[atom] >= 0
    guessed = row[found] * f + feature[atom[found]]
    row, true = _active(true_codes)
    right = torch.isin(guessed, row * f + true).sum(dtype=torch.float64)
    return SupportScore(right / len(guessed), right / len(row))


def _active(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each entry above 0."""
    if codes.layout != torch.sparse_csr:
        row, column = (codes.cpu() > 0).nonzero().unbind(1)
        return row, column
    row = torch.arange(len(codes)).repeat_interleave(codes.crow_indices().cpu().diff())
    positive = codes.values().cpu() > 0
    return row[positive], codes.col_indices().cpu()[positive].long()
