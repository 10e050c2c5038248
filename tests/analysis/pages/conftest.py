"""Atoms that are made up, with texts of any kind."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from sparsecode_pl.analysis.atom import Atom, Band, Example, Neighbour, Partner, Token

PLAIN = ["The moon rose over the quiet harbour .", "A ship left the port at dawn .", "Two keepers lit the tower ."]
EDGES = tuple(10 ** (-2 + 3 * step / 30) for step in range(31))


@dataclass(frozen=True)
class MadeUp:
    """Atoms drawn at random, the same for one number each time.

    `kind` is "text", "words" (a token an example) or "numbers" (no text). Each tenth atom is never active.
    """

    num_atoms: int = 20
    kind: str = "text"
    sentences: Sequence[str] = field(default_factory=lambda: PLAIN)
    label: str = "all-MiniLM-L6-v2, layer 3"
    rows: str = "held-out rows"
    num_rows: int = 4096
    lam: float = 0.123
    edges: tuple[float, ...] = EDGES
    stability_chance: float | None = 0.27
    around: int = 10
    sharp: float = 1.0

    def atom(self, index: int) -> Atom:
        draw = random.Random(index)  # noqa: S311
        nearest = tuple(Neighbour(draw.randrange(self.num_atoms), 0.9 - 0.1 * step) for step in range(5))
        stability = draw.uniform(0.3, 1.0) if self.stability_chance is not None else None
        if index % 10 == 9:
            return Atom(index, 0, 0.0, 0.0, 0.0, (0,) * 30, nearest=nearest, stability=stability)
        largest = draw.uniform(0.5, 6)
        top = self._examples(draw, 20, largest, largest / 2)
        middles = [(0.75, 0.99), (0.5, 0.75), (0.25, 0.5)]
        bands = tuple(
            Band(low, high, self._examples(draw, 5, largest * high / 2, largest * low / 2, low))
            for low, high in middles
        )
        purity = draw.random() * self.sharp
        count = int(self.num_rows ** draw.random()) + 20
        return Atom(
            index,
            count,
            count / self.num_rows,
            largest / 3,
            largest,
            tuple(int(40 * 2.7 ** (-(((step - 15) / 6) ** 2)) * draw.random()) for step in range(30)),
            top,
            bands,
            nearest,
            tuple(Partner(draw.randrange(self.num_atoms), 0.3 - 0.05 * step, 4.2 - step / 2) for step in range(4)),
            token=top[0].tokens[top[0].place].text if self.kind != "numbers" else None,
            purity=purity if self.kind != "numbers" else None,
            purity_bound=min(1.0, purity + 0.03 * (index % 2)) if self.kind != "numbers" else None,
            promoted=((" moon", 1.25), (" sun", 0.75)) if index % 2 else (),
            suppressed=((" of", -0.5),) if index % 2 else (),
            stability=stability,
        )

    def _examples(
        self, draw: random.Random, number: int, high: float, low: float, quantile: float | None = None
    ) -> tuple[Example, ...]:
        values = sorted((draw.uniform(low, high) for _ in range(number)), reverse=True)
        values[0] = high
        return tuple(self._example(draw, value, quantile) for value in values)

    def _example(self, draw: random.Random, value: float, quantile: float | None) -> Example:
        row, trained, exact = draw.randrange(self.num_rows), draw.random() < 0.3, value * draw.uniform(0.9, 1.05)
        if self.kind == "numbers":
            return Example(row, value, trained=trained, quantile=quantile)
        words = self.sentences[draw.randrange(len(self.sentences))].split(" ")
        place = draw.randrange(len(words))
        if self.kind == "words":
            return Example(row, value, (Token(words[place], value),), 0, trained, quantile=quantile)
        start = max(0, place - self.around)
        tokens = [
            Token(
                ("" if number == 0 else " ") + word,
                value if start + number == place else draw.choice([0.0, 0.0, 0.0, value * draw.random()]),
                after_gap=number == 0 and start > 0,
            )
            for number, word in enumerate(words[start : place + self.around + 1])
        ]
        if start == 0:
            tokens.insert(0, Token("[CLS]", 0.0))
            place += 1
        return Example(row, value, tuple(tokens), place - start, trained, exact, quantile, row // 20)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., MadeUp]:
    """Makes atoms: `made_up(num_atoms, kind, sentences, ...)`."""
    return MadeUp
