"""Scores of a decomposition into codes and atoms (arXiv 2310.07837, section 3), as torchmetrics.

Sparsity: `AverageCoefficientNorm` (S_p), `NormalizedLoss` (L_norm), `NonZeroEntries` (N0). Quality: `SparseCodingLoss`
(L), `ExplainedVariance`. Coefficients: `MeanMaxCoefficient`, `CoefficientHistogram`, `AtomActivity`. Comparison with
exact codes: `CodingGap`. Comparison with a planted dictionary: `AtomRecovery`. Intervals of the scores: `ScoreSums`.

`update` takes the inputs it needs by keyword: `codes`, (n, m), dense or CSR; `residual` and `x`, (n, d); `lam`;
`bound` and `groups`, (n,); `atoms`, (m, d). One `MetricCollection(..., compute_groups=False)` can therefore hold all
metrics. Scores are ratios of sums over samples, summed in float64, so they do not depend on how the rows are cut into
batches or spread over processes. `functional` has the same metrics for one batch, `oracle_sparsity` for true codes,
`lower_bound` for codes with a certificate, and `scores_of_sums` for sums that were resampled.
"""

# Every `update` here writes `self.sum = self.sum + term`, never `+=`. A sum created in inference mode cannot be changed
# in place outside it. And a zero that `module.to(torch.bfloat16)` has cast becomes float64 again. Row counts are int64,
# which such a cast does not change.

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
from sparsecode_pl.metrics.score_sums import ScoreSums
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
    "ScoreSums",
    "SparseCodingLoss",
    "functional",
]
