"""The metrics as functions of one batch. The classes in `sparsecode_pl.metrics` accumulate over batches."""

from sparsecode_pl.metrics.functional.atom_activity import atom_activity
from sparsecode_pl.metrics.functional.atom_recovery import AtomRecoveryScore, atom_recovery
from sparsecode_pl.metrics.functional.average_coefficient_norm import average_coefficient_norm
from sparsecode_pl.metrics.functional.coding_gap import coding_gap, lower_bound
from sparsecode_pl.metrics.functional.coefficient_histogram import coefficient_histogram
from sparsecode_pl.metrics.functional.explained_variance import explained_variance
from sparsecode_pl.metrics.functional.mean_max_coefficient import mean_max_coefficient
from sparsecode_pl.metrics.functional.nonzero_entries import nonzero_entries
from sparsecode_pl.metrics.functional.normalized_loss import normalized_loss
from sparsecode_pl.metrics.functional.oracle_sparsity import oracle_sparsity
from sparsecode_pl.metrics.functional.score_sums import SUM_COLUMNS, score_sums, scores_of_sums
from sparsecode_pl.metrics.functional.sparse_coding_loss import sparse_coding_loss

__all__ = [
    "SUM_COLUMNS",
    "AtomRecoveryScore",
    "atom_activity",
    "atom_recovery",
    "average_coefficient_norm",
    "coding_gap",
    "coefficient_histogram",
    "explained_variance",
    "lower_bound",
    "mean_max_coefficient",
    "nonzero_entries",
    "normalized_loss",
    "oracle_sparsity",
    "score_sums",
    "scores_of_sums",
    "sparse_coding_loss",
]
