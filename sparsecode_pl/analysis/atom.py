"""What there is to see of one atom, in plain Python values: what pages, tables and files are made from."""

from dataclasses import dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """A token of the text around an example.

    Attributes:
        text: as it stands in running text, with the space before a word; the number of the token, such as "#512", where
            its text is not known.
        value: coefficient of the atom there.
        after_gap: whether tokens before it are left out, because they are no rows.
    """

    text: str
    value: float
    after_gap: bool = False


class Example(NamedTuple):
    """A row in which the atom is active.

    Attributes:
        row: its number in the data.
        value: coefficient of the atom, > 0.
        tokens: the text around it, or its token alone; empty where the rows are of no text.
        place: index in `tokens` of the token that the row is of.
        trained: whether the dictionary was trained on this row; None if that is not known.
        exact: coefficient in the exact code of the row; None where it was not computed.
        quantile: share of the atom's activations that are weaker, in [0, 1], estimated; None of the strongest.
        document: number of the document that it is from; None where there are none.
    """

    row: int
    value: float
    tokens: tuple[Token, ...] = ()
    place: int = 0
    trained: bool | None = None
    exact: float | None = None
    quantile: float | None = None
    document: int | None = None


@dataclass(frozen=True)
class Band:
    """Examples whose coefficients are in a band of the atom's quantiles.

    Attributes:
        low: quantile at which it begins, in [0, 1].
        high: quantile at which it ends.
        examples: the strongest first.
    """

    low: float
    high: float
    examples: tuple[Example, ...]


class Neighbour(NamedTuple):
    """An atom that points in a similar direction.

    Attributes:
        atom: its number.
        cosine: of the two atoms.
    """

    atom: int
    cosine: float


class Partner(NamedTuple):
    """An atom that is active in the same rows.

    Attributes:
        atom: its number.
        jaccard: rows in which both are active, as a share of those in which one is.
        lift: how many times more often both are active than if they were independent.
    """

    atom: int
    jaccard: float
    lift: float


@dataclass(frozen=True)
class Atom:
    """What there is to see of one atom.

    Attributes:
        index: its number in the dictionary.
        count: rows in which it is active.
        frequency: the same as a share of the rows that were coded.
        mean: mean coefficient where it is active; 0 if it never is.
        largest: largest coefficient; 0 if it is never active.
        histogram: number of coefficients in each bin of `Features.edges`.
        top: the examples with the largest coefficients, the largest first.
        bands: examples of weaker activations, the strongest band first.
        nearest: the atoms of largest cosine, the largest first.
        partners: atoms that are active together with it, by Jaccard similarity, the largest first.
        token: text of the token that it is most active on, by the sum of its coefficients; None without tokens.
        purity: share of this token in the sum of all its coefficients, a lower bound, in [0, 1]; None without tokens.
        purity_bound: upper bound of the same, equal to `purity` where that is exact.
        promoted: tokens that it promotes in the model's output, and by how much, the most promoted first.
        suppressed: tokens that it suppresses, the most suppressed first.
        stability: mean over dictionaries of other seeds of its best cosine with their atoms; None without any.
    """

    index: int
    count: int
    frequency: float
    mean: float
    largest: float
    histogram: tuple[int, ...]
    top: tuple[Example, ...] = ()
    bands: tuple[Band, ...] = ()
    nearest: tuple[Neighbour, ...] = ()
    partners: tuple[Partner, ...] = ()
    token: str | None = None
    purity: float | None = None
    purity_bound: float | None = None
    promoted: tuple[tuple[str, float], ...] = ()
    suppressed: tuple[tuple[str, float], ...] = ()
    stability: float | None = None
