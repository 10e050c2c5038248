"""The trained object: a dictionary that encodes by itself, its card, and its files."""

from sparsecode_pl.dictionary.card import Card
from sparsecode_pl.dictionary.dictionary import BoundDictionary, Dictionary

__all__ = ["BoundDictionary", "Card", "Dictionary"]
