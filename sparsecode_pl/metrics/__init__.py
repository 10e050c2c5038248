"""Scores of a decomposition into codes and atoms (arXiv 2310.07837, section 3), as torchmetrics.

How sparse: `AverageCoefficientNorm` (S_p), `NormalizedLoss` (L_norm), `NonZeroEntries` (N0). How good:
`SparseCodingLoss` (L), `ExplainedVariance`. What the coefficients look like: `MeanMaxCoefficient`,
`CoefficientHistogram`, `AtomActivity`. Against the exact codes: `CodingGap`. Against a planted dictionary:
`AtomRecovery`.

`update` takes by keyword what it needs of `codes`, (n, m), dense or CSR, `residual` and `x`, (n, d), `lam`, `bound`,
(n,), and `atoms`, (m, d): one `MetricCollection(..., compute_groups=False)` serves all. They are ratios of sums over
samples, summed in float64, so they do not depend on how the rows are cut into batches or spread over processes.
`functional` has the same for one batch, `oracle_sparsity` for true codes, and `lower_bound` for exact ones.
"""

# In all classes here `update` writes `self.sum = self.sum + term`, never `+=`: a sum begun under inference mode may not
# be changed in place outside it, and a zero that `module.to(torch.bfloat16)` has cast becomes float64 again. Numbers of
# rows are int64, which such a cast leaves alone.

from sparsecode_pl.metrics import functional
from sparsecode_pl.metrics.atom_activity import AtomActivity
from sparsecode_pl.metrics.atom_recovery import AtomRecovery
from sparsecode_pl.metrics.average_coefficient_norm import AverageCoefficientNorm
from sparsecode_pl.metrics.coding_gap import CodingGap
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
    "CodingGap",
    "CoefficientHistogram",
    "ExplainedVariance",
    "MeanMaxCoefficient",
    "NonZeroEntries",
    "NormalizedLoss",
    "SparseCodingLoss",
    "functional",
]
