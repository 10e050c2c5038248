"""Synthetic activations: with a known answer (paper, appendix D), and noise that repeats."""

from sparsecode_synthetic.repeated_noise import RepeatedNoise
from sparsecode_synthetic.sparse_linear import SparseLinear

__all__ = ["RepeatedNoise", "SparseLinear"]
