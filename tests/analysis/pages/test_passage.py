import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.analysis.atom import Example, Token
from sparsecode_pl.analysis.pages.passage import SHADES, Passages, word
from sparsecode_pl.analysis.pages.visible import visible


def test_a_passage_as_it_stands_in_the_page():
    tokens = (
        Token("[CLS]", 0.0),
        Token("The", 0.0),
        Token(" moon", 2.0),
        Token(" rose", 0.5),
        Token(" there", 0.0, after_gap=True),
    )
    assert Passages().text(Example(7, 2.0, tokens, place=2), largest=2.0) == (
        "[CLS]The <mark class=s10>moon</mark>"
        ' <i class=s3 title="0.5">rose</i><span class=w title="tokens left out">…</span> there'
    )


def test_shades_grow_with_the_coefficient_up_to_the_last():
    values = [0.001, 0.1, 0.2, 0.5, 0.99, 1.0]
    html = Passages().text(Example(0, 1.0, tuple(Token("x", value) for value in [*values, 1.0]), place=6), 1.0)
    shades = [int(shade) for shade in re.findall(r"<i class=s(\d+)", html)]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (1, SHADES)


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(0, 1), st.booleans()), min_size=1), st.data())
def test_any_text_is_shown_whole_and_nothing_of_it_is_a_tag(parts, data):
    tokens = tuple(Token(*part) for part in parts)
    place = data.draw(st.integers(0, len(tokens) - 1))
    html = Passages().text(Example(0, 0.5, tokens, place), 1.0)
    tags = re.findall(r"<(/?\w+)", html)
    assert set(tags) <= {"i", "/i", "mark", "/mark", "span", "/span"}
    assert sum(not tag.startswith("/") for tag in tags) == sum(tag.startswith("/") for tag in tags)
    spaced = [(" " if t.text.startswith(" ") and t.text.strip() else "", t) for t in tokens]
    shown = ["…" * t.after_gap + space + visible(t.text[len(space) :]) for space, t in spaced]
    assert unescape(re.sub(r"<[^>]*>", "", html)) == "".join(shown)


def test_word():
    assert word(Example(0, 1.0, (Token("a", 0.0), Token(" b", 1.0)), place=1)) == " b"
    assert word(Example(0, 1.0)) is None
