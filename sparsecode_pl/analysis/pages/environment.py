"""How templates become pages."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sparsecode_pl.analysis.pages.numbers import percent, short
from sparsecode_pl.analysis.pages.passage import SHADES
from sparsecode_pl.analysis.pages.visible import token_html, with_signs


@cache
def environment() -> Environment:
    """The templates, with text escaped everywhere, and the filters that they use."""
    made = Environment(
        loader=PackageLoader("sparsecode_pl.analysis.pages"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"short": short, "percent": percent, "seen": _seen}
    made.globals["shades"] = SHADES
    return made


def _finalize(value: object) -> object:
    """Names and facts may come from anywhere, too."""
    return with_signs(value) if type(value) is str else value


def _seen(token: str) -> Markup:
    return Markup(token_html(token))  # noqa: S704  escaped
