"""Activations of Hugging Face transformers: token embeddings, and any layer on any text."""

from typing import Any

from sparsecode_transformer.random_model import RandomModel
from sparsecode_transformer.token_embeddings import TokenEmbeddings
from sparsecode_transformer.transformer_activations import TransformerActivations

__all__ = ["RandomModel", "TokenEmbeddings", "TransformerActivations"]


def __getattr__(name: str) -> Any:
    """Explain names of earlier versions."""
    if name == "HookedTransformer":
        raise ImportError("HookedTransformer is now TransformerActivations: give the new name")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
