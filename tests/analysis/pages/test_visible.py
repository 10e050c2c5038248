import pytest

from sparsecode_pl.analysis.pages.visible import token_html, visible, visible_html


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        (" the", " the"),
        ("\n", "↵"),
        (" \n\n", "␣↵↵"),
        ("   ", "␣␣␣"),
        (".\n", ".↵"),
        ("a\tb", "a⇥b"),
        ("\x00\x1b\x7f", "[U+0000][U+001B][U+007F]"),
        ("\u202eabc\u202c", "[U+202E]abc[U+202C]"),
        ("\u2066abc\u2069", "[U+2066]abc[U+2069]"),
        ("\u200b", "[U+200B]"),
        ("\ufeff", "[U+FEFF]"),
        ("\xa0", "[U+00A0]"),
        ("", "[empty]"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("👩\u200d🔬", "👩\u200d🔬"),  # joiners are part of what is seen
        ("كتاب", "كتاب"),
    ],
)
def test_nothing_is_hidden(text, seen):
    assert visible(text) == seen
    assert visible_html(text).replace("<span class=w>", "").replace("</span>", "") == seen


def test_html_is_escaped_and_signs_are_told_from_text():
    assert visible_html("<b>&\"'") == "&lt;b&gt;&amp;&#34;&#39;"
    assert visible_html("↵") == "↵"
    assert visible_html("\n") == "<span class=w>↵</span>"
    assert visible_html("<\n>") == "&lt;<span class=w>↵</span>&gt;"


def test_the_space_before_a_token_that_stands_alone_is_seen():
    assert token_html(" the") == "<span class=w>␣</span>the"
    assert token_html("the") == "the"
    assert token_html(" ") == "<span class=w>␣</span>"
