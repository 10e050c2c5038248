"""The features of a dictionary: what each of its atoms is active on, and how."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.analysis.atom import Atom, Band, Example, Neighbour, Partner, Token
from sparsecode_pl.analysis.best import BestPerAtom, Ints
from sparsecode_pl.analysis.co_activation import partners
from sparsecode_pl.analysis.collect import Collected, collect
from sparsecode_pl.analysis.directions import nearest, promoted_tokens, stability
from sparsecode_pl.analysis.text import RowText
from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import GreedyCoder, LassoCoder
from sparsecode_pl.data import ROWS, ActivationDataModule, Vocabulary
from sparsecode_pl.dictionary import BoundDictionary, Dictionary
from sparsecode_pl.utilities.arguments import check_arguments

#: Which rows are looked at: those that the dictionary was not trained on, or all.
Which = Literal["heldout", "all"]

# Bands of quantiles that weaker examples are shown from, the strongest first.
_BANDS = ((0.75, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))
# Activations that are drawn for each example that is shown from a band.
_DRAWN = 1.5
_EXACT_BLOCK = 2048


@dataclass(frozen=True)
class Features:
    """What there is to see of the atoms of a dictionary.

    Attributes:
        label: the data's name.
        rows: which rows were coded, in words.
        num_rows: how many.
        lam: penalty that they were coded at.
        edges: of the bins of the histograms of coefficients.
        count: rows in which each atom is active, (m,) int64.
        mean: mean coefficient where an atom is active, (m,); 0 where it never is.
        largest: largest coefficient, (m,); 0 where it is never active.
        token: number of the token that an atom is most active on, by the sum of its coefficients, (m,) int64; -1 for
            none.
        purity: share of this token in the sum of all its coefficients, lower and upper bound, (2, m); NaN for none.
        stability: mean best cosine in dictionaries of other seeds, (m,); None without any.
        stability_chance: what a random direction would have.
    """

    label: str
    rows: str
    num_rows: int
    lam: float
    edges: tuple[float, ...]
    count: Ints
    mean: NDArray[np.float64]
    largest: NDArray[np.float64]
    token: Ints
    purity: NDArray[np.float64]
    stability: NDArray[np.float64] | None
    stability_chance: float | None
    _parts: "_Parts"

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""
        return len(self.count)

    @property
    def has_text(self) -> bool:
        """Whether the tokens that rows are of are known."""
        return self._parts.text.has_words

    def __iter__(self) -> Iterator[Atom]:
        return (self.atom(index) for index in range(self.num_atoms))

    def top_token(self, index: int) -> str | None:
        """Text of the token that an atom is most active on; None for none."""
        return None if self.token[index] < 0 else self._parts.text.token(int(self.token[index]))

    def atom(self, index: int) -> Atom:
        """What there is to see of an atom.

        Args:
            index: its number, 0 to m - 1.

        Raises:
            ValueError: there is no such atom.
        """
        if not 0 <= index < self.num_atoms:
            raise ValueError(f"index is {index}: give the number of an atom, 0 to {self.num_atoms - 1}")
        parts, tokens = self._parts, self.token[index] >= 0
        promoted, suppressed = parts.output_tokens(index)
        return Atom(
            index=index,
            count=int(self.count[index]),
            frequency=int(self.count[index]) / max(1, self.num_rows),
            mean=float(self.mean[index]),
            largest=float(self.largest[index]),
            histogram=tuple(parts.collected.histogram[index].tolist()),
            top=tuple(parts.top(index)),
            bands=tuple(parts.bands(index)),
            nearest=tuple(parts.nearest(index)),
            partners=tuple(parts.partners(index)),
            token=self.top_token(index),
            purity=float(self.purity[0, index]) if tokens else None,
            purity_bound=float(self.purity[1, index]) if tokens else None,
            promoted=promoted,
            suppressed=suppressed,
            stability=None if self.stability is None else float(self.stability[index]),
        )


def find_features(
    codec: Codec,
    data: ActivationDataModule,
    *,
    rows: Which = "heldout",
    examples: int = 20,
    per_band: int = 5,
    context: int = 10,
    exact_examples: int = 3,
    others: Sequence[Dictionary] = (),
    vocabulary: Vocabulary | None = None,
) -> Features:
    """Code rows once, and gather what there is to see of each atom.

    Args:
        codec: a dictionary, or anything else that encodes.
        data: the rows, of one layer.
        rows: "heldout" takes those that the dictionary was not trained on, held-out rows and unseen tokens; "all" takes
            all, and marks those that it was trained on. Data without held-out rows give all, and so do streams, which
            train on other rows.
        examples: of the largest coefficients of each atom.
        per_band: examples from each of four bands of quantiles, so that an atom is not judged by its strongest alone.
        context: tokens of text on each side of an example.
        exact_examples: how many of the first examples get their exact coefficient beside the greedy one, with greedy
            codes; the exact code of a row takes up to a few milliseconds.
        others: dictionaries of the same data from other initial dictionaries.
        vocabulary: the tokens of the rows, for controls, which know only their numbers; those of the data if None.

    Raises:
        ValueError: an argument is out of its range, or widths differ.
    """
    check_arguments(find_features, {"examples": examples, "per_band": per_band, "context": context})
    for name, value, least in (
        ("examples", examples, 1),
        ("per_band", per_band, 0),
        ("context", context, 0),
        ("exact_examples", exact_examples, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}: give at least {least}")
    if rows not in ("heldout", "all"):
        raise ValueError(f"rows is {rows!r}: give 'heldout' or 'all'")
    if codec.d_model != data.d_model:
        raise ValueError(
            f"the dictionary has width {codec.d_model}, but {data.label} has width {data.d_model}: give the data that "
            "it was learnt from"
        )
    for other in others:
        if other.d_model != codec.d_model:
            raise ValueError(f"others has a dictionary of width {other.d_model}: give width {codec.d_model}")
    trained, counted = np.zeros(len(data.rows), bool), np.zeros(len(data.rows), bool)
    trained[data.train_index.numpy()] = not data.stream  # which trains on other rows than those that are scored
    for kind, index in data.row_sets.items():
        counted[index.numpy()] = kind != "train"
    everything = rows == "all" or data.stream or not counted.any()
    counted |= everything
    text = RowText(data.source, vocabulary)
    sampled = round(_DRAWN * per_band * len(_BANDS))
    collected = collect(codec, data.rows, counted, text, top=examples, sample=sampled, context=context)
    return _features(codec, data, collected, text, trained, everything, per_band, exact_examples, others, counted)


def _features(
    codec: Codec,
    data: ActivationDataModule,
    collected: Collected,
    text: RowText,
    trained: NDArray[np.bool_],
    everything: bool,
    per_band: int,
    exact_examples: int,
    others: Sequence[Dictionary],
    counted: NDArray[np.bool_],
) -> Features:
    """The features, from what the pass over the codes has kept and from the atoms."""
    atoms = codec.atoms.detach()
    count = collected.count
    token, purity = np.full(len(count), -1), np.full((2, len(count)), np.nan)
    if collected.tokens is not None and text.token_id is not None:
        token, weight = collected.tokens.largest()
        # The strongest example alone may tell more of its token than the summary has kept.
        first, strongest = collected.top.rows[:, 0], np.nan_to_num(collected.top.values[:, 0])
        more = strongest > weight
        token[more], weight[more] = text.kind[first[more]], strongest[more]
        some = token >= 0
        bounds = np.stack([weight, weight + collected.tokens.missed])
        purity[:, some] = np.minimum(bounds[:, some] / collected.total[some], 1)
        token[some] = text.types[token[some]]
    found_again = stability(atoms, [other.atoms.detach().to(atoms) for other in others]) if others else None
    parts = _Parts(
        collected=collected,
        text=text,
        trained=trained,
        per_band=per_band,
        exact=_exact_values(codec, data, collected.top, exact_examples),
        near=tuple(part.cpu().numpy() for part in nearest(atoms)),
        together=partners(collected.together),
        output=promoted_tokens(atoms, data.source.output_logits),
    )
    names = [ROWS[kind] for kind in data.row_sets if kind != "train"]
    return Features(
        label=data.label,
        rows="all rows" if everything else " and ".join(names),
        num_rows=int(counted.sum()),
        lam=codec.lam,
        edges=tuple(collected.edges.tolist()),
        count=count,
        mean=collected.total / np.maximum(count, 1),
        largest=np.nan_to_num(collected.top.values[:, 0].astype(np.float64)),
        token=token,
        purity=purity,
        stability=None if found_again is None else found_again[0].double().cpu().numpy(),
        stability_chance=None if found_again is None else found_again[1],
        _parts=parts,
    )


def _exact_values(codec: Codec, data: ActivationDataModule, top: BestPerAtom, number: int) -> NDArray[np.float32]:
    """The exact coefficients of the first examples of each atom, (m, number); NaN where there is none."""
    rows = top.rows[:, :number]
    exact = np.full(rows.shape, np.nan, np.float32)
    dictionary = codec.dictionary if isinstance(codec, BoundDictionary) else codec
    if not (isinstance(dictionary, Dictionary) and isinstance(dictionary.coder, GreedyCoder)):
        return exact
    bound = dictionary.bind(LassoCoder())
    wanted = np.unique(rows[rows >= 0])
    for start in range(0, len(wanted), _EXACT_BLOCK):
        part = wanted[start : start + _EXACT_BLOCK]
        codes = bound.encode(data.rows[torch.from_numpy(part)]).detach().cpu()
        crow, col, value = codes.crow_indices().numpy(), codes.col_indices().numpy(), codes.values().numpy()
        keys = np.repeat(np.arange(len(part)), np.diff(crow)) * codec.num_atoms + col
        atom, place = np.nonzero((rows >= part[0]) & (rows <= part[-1]))
        asked = np.searchsorted(part, rows[atom, place]) * codec.num_atoms + atom
        found = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
        exact[atom, place] = np.where(keys[found] == asked, value[found], 0) if len(keys) else 0
    return exact


@dataclass(frozen=True)
class _Parts:
    """What atoms are made from when they are asked for."""

    collected: Collected
    text: RowText
    trained: NDArray[np.bool_]
    per_band: int
    exact: NDArray[np.float32]
    near: tuple[NDArray[np.int64], ...]
    together: tuple[Ints, NDArray[np.float64], NDArray[np.float64]]
    output: tuple[Tensor, Tensor] | None

    def top(self, index: int) -> Iterator[Example]:
        """The examples of an atom with the largest coefficients, the largest first."""
        best = self.collected.top
        exact = [None if math.isnan(value) else value for value in self.exact[index].tolist()]
        exact += [None] * (best.rows.shape[1] - len(exact))
        each = zip(best.rows[index].tolist(), best.values[index].tolist(), exact, strict=True)
        for place, (row, value, one) in enumerate(each):
            if row >= 0:
                yield self._example(row, value, best.around[index, place], one)

    def _example(
        self,
        row: int,
        value: float,
        around: NDArray[np.float32],
        exact: float | None = None,
        quantile: float | None = None,
    ) -> Example:
        tokens, place = self._tokens(row, value, around)
        return Example(
            row=row,
            value=value,
            tokens=tokens,
            place=place,
            trained=bool(self.trained[row]),
            exact=exact,
            quantile=quantile,
            document=None if self.text.document is None else int(self.text.document[row]),
        )

    def _tokens(self, row: int, value: float, around: NDArray[np.float32]) -> tuple[tuple[Token, ...], int]:
        """The text around a row, and the place of its own token in it."""
        if not self.text.has_words:
            return (), 0
        if not len(around):
            return (Token(self.text.words(slice(row, row + 1))[0], value),), 0
        half = len(around) // 2
        there = np.flatnonzero(~np.isnan(around))
        first, last = int(there[0]), int(there[-1]) + 1
        rows = slice(row - half + first, row - half + last)
        gaps = self.text.after_gap[rows].tolist()
        gaps[0] = False  # what is before the first token is not shown anyway
        each = zip(self.text.words(rows), around[first:last].tolist(), gaps, strict=True)
        return tuple(Token(*token) for token in each), half - first

    def bands(self, index: int) -> Iterator[Band]:
        """Examples from the bands of quantiles, from the sample of the atom's activations."""
        sample = self.collected.sample
        rows = sample.rows[index][sample.rows[index] >= 0].tolist()
        values = sample.values[index, : len(rows)].tolist()
        shown = set(self.collected.top.rows[index].tolist())
        ascending = sorted(range(len(rows)), key=lambda place: (values[place], rows[place]))
        quantile = {place: (rank + 0.5) / len(rows) for rank, place in enumerate(ascending)}
        for low, high in _BANDS:
            inside = [place for place in quantile if low <= quantile[place] < high and rows[place] not in shown]
            # The places of the sample are random, so the first ones are a random choice.
            chosen = sorted(sorted(inside)[: self.per_band], key=lambda place: -quantile[place])
            examples = tuple(
                self._example(rows[place], values[place], sample.around[index, place], quantile=quantile[place])
                for place in chosen
            )
            if examples:
                yield Band(low, high, examples)

    def nearest(self, index: int) -> Iterator[Neighbour]:
        """The nearest atoms."""
        for atom, cosine in zip(*(part[index].tolist() for part in self.near), strict=True):
            yield Neighbour(atom, cosine)

    def partners(self, index: int) -> Iterator[Partner]:
        """The atoms that are active together with an atom."""
        for atom, jaccard, lift in zip(*(part[index].tolist() for part in self.together), strict=True):
            if atom >= 0:
                yield Partner(atom, jaccard, lift)

    def output_tokens(self, index: int) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
        """The tokens that an atom promotes and those that it suppresses, the most first."""
        if self.output is None:
            return (), ()
        tokens, logits = (part[index].tolist() for part in self.output)
        both = [(self.text.token(token), logit) for token, logit in zip(tokens, logits, strict=True)]
        half = len(both) // 2
        return tuple(both[:half]), tuple(reversed(both[half:]))
