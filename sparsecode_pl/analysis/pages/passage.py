"""Examples as HTML: the text around a row, with each token shaded by the coefficient of the atom.

Millions of tokens are written, so they are put together here, and not in a template.
"""

from markupsafe import Markup

from sparsecode_pl.analysis.atom import Example, Token
from sparsecode_pl.analysis.pages.visible import visible_html

#: Shades of a coefficient; the style sheet has a class s1, s2 ... for each.
SHADES = 10
_GAP = '<span class=w title="tokens left out">…</span>'
_KEPT = 1 << 17  # texts of tokens, more than most vocabularies have


class Passages:
    """Writes the text of examples; keeps the HTML of each token text that it met."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def text(self, example: Example, largest: float) -> Markup:
        """The tokens of an example as safe HTML.

        Args:
            example: with at least one token.
            largest: coefficient of the darkest shade, > 0.
        """
        parts: list[str] = []
        place, scale, known = example.place, SHADES / largest, self._known
        for number, token in enumerate(example.tokens):
            text = token.text
            space, body = known.get(text) or self._add(text)
            value = token.value
            is_row = number == place
            if token.after_gap:
                parts.append(_GAP)
            if is_row:
                parts.append(f"{space}<mark class=s{_shade(example.value * scale)}>{body}</mark>")
            elif value:
                parts.append(f'{space}<i class=s{_shade(value * scale)} title="{value:.3g}">{body}</i>')
            else:
                parts.append(space + body)
        return Markup("".join(parts))  # noqa: S704  every text in it was escaped

    def _add(self, text: str) -> tuple[str, str]:
        if len(self._known) >= _KEPT:
            self._known.clear()
        # The space before a word is no part of what is shaded.
        space = " " if text.startswith(" ") and text.strip() else ""
        self._known[text] = pair = space, visible_html(text[len(space) :])
        return pair


def _shade(scaled: float) -> int:
    return min(max(int(scaled) + 1, 1), SHADES)


def word(example: Example) -> str | None:
    """Text of the token that the example's row is of; None where there is no text."""
    token = _at(example)
    return None if token is None else token.text


def _at(example: Example) -> Token | None:
    return example.tokens[example.place] if example.tokens else None
