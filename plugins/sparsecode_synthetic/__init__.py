"""Synthetic activations with a known answer (paper, appendix D)."""

from sparsecode_synthetic.sparse_linear import SparseLinear

__all__ = ["SparseLinear"]
