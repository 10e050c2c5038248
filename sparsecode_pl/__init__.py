"""Measure how sparse a neural network's activations really are, by sparse coding, beside controls that are not."""

from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import measure
from sparsecode_pl.module import SparseCodingModule

__all__ = ["Dictionary", "SparseCodingModule", "measure"]
