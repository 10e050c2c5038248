"""Text of tokens as it can be seen: nothing in it is invisible, and nothing in it acts on the text around it."""

import re

from markupsafe import escape

# Line ends, control characters, half surrogate pairs, and characters that have no width or change the direction of
# what follows. The joiners U+200C and U+200D stay: scripts and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]"
)
_NAMED = {"\n": "↵", "\t": "⇥"}


def visible(text: str) -> str:
    r"""The text with a sign in place of each character that would not be seen.

    Example:
        >>> visible("one\n\x00"), visible(" "), visible("\u202etxt"), visible("")
        ('one↵[U+0000]', '␣', '[U+202E]txt', '[empty]')
    """
    return with_signs(text) if text.strip() else _blank(text)


def with_signs(text: str) -> str:
    """The same of text that is no token, and may be empty or blank."""
    return _HIDDEN.sub(lambda found: _sign(found[0]), text)


def visible_html(text: str) -> str:
    """The same as safe HTML, in which the signs are told from text by their class."""
    if not text.strip():
        return _sign_html(str(escape(_blank(text))))
    return _HIDDEN.sub(lambda found: _sign_html(_sign(found[0])), str(escape(text)))


def token_html(text: str) -> str:
    """A token that stands alone, as safe HTML: the space before it is seen too."""
    if text.startswith(" ") and text.strip():
        return _sign_html("␣") + visible_html(text[1:])
    return visible_html(text)


def _sign(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"[U+{code:04X}]"


def _sign_html(sign: str) -> str:
    return f"<span class=w>{sign}</span>"


def _blank(text: str) -> str:
    if not text:
        return "[empty]"
    return "".join(
        "␣" if c == " " else _NAMED.get(c) or (_sign(c) if _HIDDEN.match(c) else f"[U+{ord(c):04X}]") for c in text
    )
