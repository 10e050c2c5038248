"""Activations of Hugging Face transformers."""

from sparsecode_transformer.token_embeddings import TokenEmbeddings

__all__ = ["TokenEmbeddings"]
