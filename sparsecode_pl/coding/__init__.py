"""Finding codes, given atoms and activations.

`greedy_encode` is the paper's coefficient step (appendix C), `lasso_encode` finds the exact codes that it approximates,
with a certificate, and `refined_encode` comes close to these in about twice the greedy step's time. A `Coder`
is a configured method: `GreedyCoder`, the default, `RefinedCoder`, `LassoCoder` or `MatchingPursuitCoder`. Bound to
atoms it is a `BoundCoder`, which keeps what it has computed for them. `reconstruct` turns codes back into activations.
Codes are sparse CSR tensors (n, m) throughout.
"""

from sparsecode_pl.coding.base import BoundCoder, Coder
from sparsecode_pl.coding.coder import GreedyCoder, LassoCoder, MatchingPursuitCoder, RefinedCoder
from sparsecode_pl.coding.codes import csr_codes, reconstruct
from sparsecode_pl.coding.greedy import greedy_encode
from sparsecode_pl.coding.lasso import LassoCodes, lasso_encode
from sparsecode_pl.coding.refined import refined_encode
from sparsecode_pl.coding.shards import load_codes, save_codes

__all__ = [
    "BoundCoder",
    "Coder",
    "GreedyCoder",
    "LassoCoder",
    "LassoCodes",
    "MatchingPursuitCoder",
    "RefinedCoder",
    "csr_codes",
    "greedy_encode",
    "lasso_encode",
    "load_codes",
    "reconstruct",
    "refined_encode",
    "save_codes",
]
