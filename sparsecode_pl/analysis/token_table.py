"""A token's strongest features, and what else they are active on (arXiv 2310.07837, tables 1 to 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.analysis.text import RowText
from sparsecode_pl.codec import Codec
from sparsecode_pl.data import ActivationDataModule, Progress, Vocabulary, row_blocks
from sparsecode_pl.utilities.arguments import check_arguments

_BLOCK = 4096


@dataclass(frozen=True)
class TokenFeature:
    """One of a token's strongest features.

    Attributes:
        atom: its number.
        value: its mean coefficient over the rows of the token.
        tokens: the tokens with the largest mean coefficients, the largest first.
    """

    atom: int
    value: float
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TokenTable:
    """A token's strongest features beside its nearest neighbours.

    Attributes:
        token: its text.
        num_rows: rows that are of it.
        features: its strongest features, the strongest first.
        neighbours: the tokens whose mean rows have the largest cosine with its own, without any dictionary.
    """

    token: str
    num_rows: int
    features: tuple[TokenFeature, ...]
    neighbours: tuple[tuple[str, float], ...]

    def plain(self) -> dict[str, Any]:
        """The table as JSON can hold it."""
        return {
            "token": self.token,
            "num_rows": self.num_rows,
            "features": [
                {"atom": one.atom, "value": one.value, "tokens": [list(pair) for pair in one.tokens]}
                for one in self.features
            ],
            "neighbours": [list(pair) for pair in self.neighbours],
        }


def find_token(data: ActivationDataModule, word: str, vocabulary: Vocabulary | None = None) -> int:
    """The number of the token that a word is, among the tokens of the rows.

    Args:
        data: the rows, of one layer.
        word: as it stands in running text, with or without the space before it, or as the column `token` has it.
        vocabulary: the tokens of the rows; those of the data if None.

    Raises:
        ValueError: the rows are of no text, the tokenizer splits the word, or no row is of it.
    """
    text = RowText(data.source, vocabulary)
    if text.token_id is None:
        raise ValueError(f"token is {word!r}, but {data.label} has no column of tokens: give data of text")
    number = text.number(word)
    if number is None:
        tokens = vocabulary or data.source.vocabulary
        if tokens is None:
            raise ValueError(f"token is {word!r}, and no row of {data.label} is of it: give another")
        split = [tokens.strings[each] for each in tokens.split(word)]
        parts = ", ".join(map(repr, split)) or "nothing"
        if len(split) != 1:
            raise ValueError(f"token is {word!r}, which the tokenizer splits into {parts}: give one of these")
        if split[0].strip().casefold() != word.strip().casefold():
            raise ValueError(f"token is {word!r}, which the tokenizer reads as {parts}: give a word that it knows")
        number = tokens.split(word)[0]
    if not (text.token_id == number).any():
        raise ValueError(f"token is {word!r}, and no row of {data.label} is of it: give another, or more text")
    return number


def token_tables(
    codec: Codec,
    data: ActivationDataModule,
    words: Sequence[str],
    *,
    top: int = 3,
    examples: int = 20,
    vocabulary: Vocabulary | None = None,
) -> list[TokenTable]:
    """The strongest features of some tokens, over all rows, those that were trained on too.

    A token stands for all its rows: its coefficients and its position are means over them. A table of token embeddings
    has one row for each.

    Args:
        codec: a dictionary, or anything else that encodes.
        data: the rows, of one layer.
        words: the tokens, as they stand in running text.
        top: features of each token.
        examples: tokens for each feature, and neighbours.
        vocabulary: the tokens of the rows; those of the data if None.

    Raises:
        ValueError: an argument is out of its range, a word is not one token, or widths differ.
    """
    check_arguments(token_tables, {"top": top, "examples": examples})
    for name, value in (("top", top), ("examples", examples)):
        if value < 1:
            raise ValueError(f"{name} is {value}: give at least 1")
    if codec.d_model != data.d_model:
        raise ValueError(f"the dictionary has width {codec.d_model}, but {data.label} has width {data.d_model}")
    numbers = [find_token(data, word, vocabulary) for word in words]
    text, codec = RowText(data.source, vocabulary), codec.bind()
    types, kind = torch.unique(torch.as_tensor(text.token_id), return_inverse=True)
    rows_of = kind.bincount()
    mean = _type_means(data, kind, len(types))
    places = {number: int((types == number).nonzero()) for number in numbers}
    strongest = {number: _strongest(codec, data, kind == place, top) for number, place in places.items()}
    atoms = sorted({atom for found in strongest.values() for atom, _ in found})
    sums = _type_coefficients(codec, data, kind, len(types), atoms)
    directions = normalize(mean, dim=1)

    def named(values: Tensor, leave_out: int | None = None) -> tuple[tuple[str, float], ...]:
        if leave_out is not None:
            values = values.clone()
            values[leave_out] = -torch.inf
        best = values.topk(min(examples, len(values) - (leave_out is not None)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple((text.token(int(types[place])), value) for place, value in pairs)

    tables = []
    for number in numbers:
        features = []
        for atom, coefficient in strongest[number]:
            tokens = named(sums[:, atoms.index(atom)] / rows_of)
            features.append(TokenFeature(atom, coefficient, tuple(pair for pair in tokens if pair[1] > 0)))
        near = named(directions @ directions[places[number]], leave_out=places[number])
        tables.append(TokenTable(text.token(number), int(rows_of[places[number]]), tuple(features), near))
    return tables


def _type_means(data: ActivationDataModule, kind: Tensor, num_types: int) -> Tensor:
    """The mean row of each token, (types, d)."""
    mean, start = torch.zeros(num_types, data.d_model, dtype=torch.float64), 0
    for block in row_blocks(data.rows):
        mean.index_add_(0, kind[start : start + len(block)], block.double())
        start += len(block)
    return (mean / kind.bincount()[:, None]).float()


def _strongest(codec: Codec, data: ActivationDataModule, mask: Tensor, top: int) -> list[tuple[int, float]]:
    """The atoms of the largest mean coefficients over some rows, with these, the largest first; active ones only."""
    index, total = mask.nonzero().flatten(), torch.zeros(codec.num_atoms, dtype=torch.float64)
    for block in row_blocks(data.rows, index, _BLOCK):
        codes = codec.encode(block.to(codec.atoms.device)).detach().cpu()
        total.index_add_(0, codes.col_indices(), codes.values().double())
    best = (total / len(index)).topk(min(top, codec.num_atoms))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(atom, value) for atom, value in pairs if value > 0]


def _type_coefficients(
    codec: Codec, data: ActivationDataModule, kind: Tensor, num_types: int, atoms: list[int]
) -> Tensor:
    """Sums of the coefficients of some atoms over the rows of each token, (types, atoms)."""
    sums, start = torch.zeros(num_types * len(atoms), dtype=torch.float64), 0
    column = torch.full((codec.num_atoms,), -1)
    column[atoms] = torch.arange(len(atoms))
    with Progress("looking at tokens", len(data.rows), unit="rows") as progress:
        for block in row_blocks(data.rows, size=_BLOCK):
            codes = codec.encode(block.to(codec.atoms.device)).detach().cpu()
            row = torch.repeat_interleave(torch.arange(start, start + len(block)), codes.crow_indices().diff())
            wanted = column[codes.col_indices()]
            chosen = wanted >= 0
            sums.index_add_(0, kind[row[chosen]] * len(atoms) + wanted[chosen], codes.values()[chosen].double())
            start += len(block)
            progress.advance(len(block))
    return sums.view(num_types, len(atoms))
