"""The tokens of a model, as they stand in running text."""

import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How tokenizers write the space before a word, or mark a token that continues one.
_METASPACE, _BYTE_SPACE, _CONTINUED = "▁", "Ġ", "##"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenizerVocabulary:
    """The tokens of a tokenizer; see `sparsecode_pl.data.Vocabulary`.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @cached_property
    def strings(self) -> list[str]:
        """The tokens by their numbers, with the space before a word, (V,)."""
        numbers = range(len(self._tokenizer))
        raw = [token or "" for token in self._tokenizer.convert_ids_to_tokens(list(numbers))]
        special = set(self._tokenizer.all_special_tokens)
        if any(token.startswith(_BYTE_SPACE) for token in raw):
            # Tokens are bytes, which stand for text only once they are decoded.
            found = self._tokenizer.batch_decode([[number] for number in numbers], clean_up_tokenization_spaces=False)
            return list(found)
        if any(token.startswith(_METASPACE) for token in raw):
            return [_from_bytes(token.replace(_METASPACE, " ")) for token in raw]
        if any(token.startswith(_CONTINUED) for token in raw):
            return [_from_word_piece(token, token in special) for token in raw]
        return raw

    def split(self, word: str) -> list[int]:
        """The tokens that a word is split into, with or without a space before it, whichever are fewer."""
        texts = word.strip(), f" {word.strip()}"
        found: list[list[int]] = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return min(found, key=len)


def _from_bytes(token: str) -> str:
    """The text of a token that may stand for a single byte, such as "<0x0A>"; a part of a character is "�"."""
    byte = _BYTE.fullmatch(token)
    return token if byte is None else bytes([int(byte[1], 16)]).decode(errors="replace")


def _from_word_piece(token: str, special: bool) -> str:
    if token.startswith(_CONTINUED):
        return token.removeprefix(_CONTINUED)
    return token if special or not token[:1].isalnum() else f" {token}"


def load_vocabulary(label: str, load: Callable[[], "PreTrainedTokenizerBase"]) -> TokenizerVocabulary | None:
    """The tokens of a tokenizer; None, with a warning, if it cannot be loaded.

    Args:
        label: the data's name, for the warning.
        load: loads the tokenizer.
    """
    try:
        return TokenizerVocabulary(load())
    except Exception as error:  # any tokenizer may fail in its own way, and the rows do without
        rank_zero_warn(f"{label}: tokens stay unnamed, the tokenizer cannot be loaded: {error}")
        return None
