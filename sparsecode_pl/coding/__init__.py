"""Given atoms and activations, find codes.

`greedy_encode` is the paper's coefficient step (appendix C); a `Coder` is a configured way to find codes, `GreedyCoder`
the default one. `reconstruct` goes the other way. Codes are sparse CSR tensors (n, m) throughout.
"""

from sparsecode_pl.coding.coder import Coder, GreedyCoder
from sparsecode_pl.coding.codes import csr_codes, reconstruct
from sparsecode_pl.coding.greedy import greedy_encode
from sparsecode_pl.coding.shards import load_codes, save_codes

__all__ = ["Coder", "GreedyCoder", "csr_codes", "greedy_encode", "load_codes", "reconstruct", "save_codes"]
