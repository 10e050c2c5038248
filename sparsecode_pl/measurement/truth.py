"""How a dictionary compares with the known answer of synthetic data."""

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from sparsecode_pl.coding import csr_codes
from sparsecode_pl.data import GroundTruth, Rows
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.metrics.functional import (
    atom_recovery,
    match_atoms,
    matching_by_chance,
    oracle_sparsity,
    support_recovery,
)
from sparsecode_pl.utilities.seeding import generator

#: Names of the scores that `truth_scores` gives.
TRUTH_SCORES = (
    *("half_active", "oracle_S1", "atom_recovery", "matched_recovery", "matched_recovery_chance"),
    *("support_precision", "support_recall"),
)

# Rows whose support is compared, at most.
_MOST_ROWS = 4096


def truth_scores(dictionary: Dictionary, rows: Rows, truth: GroundTruth, index: Tensor) -> dict[str, float]:
    """How a dictionary compares with the known answer.

    Args:
        dictionary: a dictionary with a penalty.
        rows: all rows of the data, (n, d).
        truth: their known answer.
        index: numbers of the rows whose support is compared, int64; a random 4,096 of them if there are more.

    Returns:
        - `half_active`: a/2, half the mean number of active features; only for data like the paper's.
        - `oracle_S1`: S1 of the true codes of all rows.
        - `atom_recovery`: mean over the true features of the largest cosine with any atom.
        - `matched_recovery`: the same where no atom stands for two features; and `matched_recovery_chance` for as many
          random atoms.
        - `support_precision`: share of the active atoms that stand for an active feature; `support_recall`: share of
          the active features whose atom is active. Only atoms matched to a feature are looked at.
    """
    atoms = dictionary.atoms.detach().cpu()
    matching = match_atoms(truth.features, atoms)
    chosen = index[torch.randperm(len(index), generator=generator(0))[:_MOST_ROWS].sort().values]
    codes = dictionary.encode(rows[chosen])
    support = support_recovery(_rows_of(truth.codes, chosen), codes, matching.atoms)
    known = {} if truth.half_active is None else {"half_active": truth.half_active}
    return known | {
        "oracle_S1": float(oracle_sparsity(truth.codes)),
        "atom_recovery": float(atom_recovery(truth.features, atoms).mean_max_cosine),
        "matched_recovery": float(matching.mean_cosine),
        "matched_recovery_chance": float(matching_by_chance(truth.features, len(atoms)).mean_cosine),
        "support_precision": float(support.precision),
        "support_recall": float(support.recall),
    }


def _rows_of(codes: Tensor, index: Tensor) -> Tensor:
    """Some rows of sparse CSR codes."""
    parts = (codes.values(), codes.col_indices(), codes.crow_indices())
    chosen = csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(codes.shape))[index.numpy()]
    crow, col, values = (torch.from_numpy(part) for part in (chosen.indptr, chosen.indices, chosen.data))
    return csr_codes(crow.long(), col.long(), values, codes.shape[1])
