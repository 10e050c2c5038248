"""Scores of a decomposition into codes and atoms (arXiv 2310.07837, section 3), as torchmetrics.

How sparse: `AverageCoefficientNorm` (S_p), `NormalizedLoss` (L_norm), `NonZeroEntries` (N0). How good:
`SparseCodingLoss` (L), `ExplainedVariance`. What the coefficients look like: `MeanMaxCoefficient`,
`CoefficientHistogram`, `AtomActivity`. Against a planted dictionary: `AtomRecovery`.

`update` takes what it needs by keyword: `codes` (n, m), dense or CSR; `residual` and `x`, (n, d); `lam`; `atoms` (m, d).
One `MetricCollection(..., compute_groups=False)` thus serves all. They are ratios of sums over samples, summed in
float64, so that they do not depend on how the rows were cut into batches or spread over processes.
`sparsecode_pl.metrics.functional` has the same for one batch, and `oracle_sparsity` for true codes.
"""

from sparsecode_pl.metrics import functional
from sparsecode_pl.metrics.atom_activity import AtomActivity
from sparsecode_pl.metrics.atom_recovery import AtomRecovery
from sparsecode_pl.metrics.average_coefficient_norm import AverageCoefficientNorm
from sparsecode_pl.metrics.coefficient_histogram import CoefficientHistogram
from sparsecode_pl.metrics.explained_variance import ExplainedVariance
from sparsecode_pl.metrics.mean_max_coefficient import MeanMaxCoefficient
from sparsecode_pl.metrics.nonzero_entries import NonZeroEntries
from sparsecode_pl.metrics.normalized_loss import NormalizedLoss
from sparsecode_pl.metrics.sparse_coding_loss import SparseCodingLoss

__all__ = [
    "AtomActivity",
    "AtomRecovery",
    "AverageCoefficientNorm",
    "CoefficientHistogram",
    "ExplainedVariance",
    "MeanMaxCoefficient",
    "NonZeroEntries",
    "NormalizedLoss",
    "SparseCodingLoss",
    "functional",
]
