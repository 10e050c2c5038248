"""Activations of Hugging Face transformers: token embeddings, and any layer on any text."""

from sparsecode_transformer.hooked_transformer import HookedTransformer
from sparsecode_transformer.random_model import RandomModel
from sparsecode_transformer.token_embeddings import TokenEmbeddings

__all__ = ["HookedTransformer", "RandomModel", "TokenEmbeddings"]
