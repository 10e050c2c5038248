import json

import pytest

from sparsecode_pl.analysis.atom import Atom, Example, Token
from sparsecode_pl.analysis.pages.table import COLUMNS, Table, to_script

WORD = " moon"
DEAD = Atom(1, 0, 0.0, 0.0, 0.0, (0, 0))


def passage(*texts: str, place: int = 0, value: float = 1.0) -> Example:
    return Example(0, value, tuple(Token(text, 0.0) for text in texts), place)


def table(*atoms: Atom, num_atoms: int = 2) -> Table:
    made = Table(num_atoms)
    for atom in atoms:
        made.add(atom)
    return made


def line(made: Table) -> dict[str, object]:
    return dict(zip(COLUMNS, json.loads(made.lines())[0], strict=True))


def test_a_line_has_what_is_searched_and_sorted():
    top = (
        passage("The", " Moon", " rose", place=1),
        passage(" moon", "light", place=0),
        passage(" a", " sun", place=1),
    )
    atom = Atom(0, 3, 0.123456, 1.5, 2.0, (3,), top, token=WORD, purity=0.5, purity_bound=0.75, stability=0.9)
    assert line(table(atom)) == {
        "index": 0,
        "frequency": 0.1235,
        "mean": 1.5,
        "largest": 2.0,
        "purity": 0.5,
        "purity_bound": 0.75,
        "stability": 0.9,
        "token": "moon",
        "strongest": ["Moon", "sun"],  # once, as it is written first
        "words": "the moon rose moonlight a sun",
    }


def test_the_strongest_come_first():
    tops = tuple(passage(f" w{number}") for number in [3, 1, 3, 2, 9, 8, 7, 6, 5])
    assert line(table(Atom(0, 3, 0.1, 1.5, 2.0, (3,), tops)))["strongest"] == ["w3", "w1", "w2", "w9", "w8", "w7"]


def test_less_of_the_text_is_kept_of_many_atoms():
    atom = Atom(0, 3, 0.1, 1.5, 2.0, (3,), (passage(*(f" word{number}" for number in range(200))),))
    assert len(line(table(atom))["words"]) == 400
    assert len(line(table(atom, num_atoms=65_536))["words"]) == 120


def test_names_say_which_are_never_active():
    named = Atom(0, 1, 0.5, 1.0, 1.0, (1,), token=f" <{WORD.strip()}>")
    made = table(named, DEAD, Atom(2, 1, 0.5, 1.0, 1.0, (1,)))
    assert json.loads(made.names()) == ["<moon>", None, ""]
    assert "<" not in made.names()
    assert made.num_dead == 1


def test_what_the_atoms_have_in_common_leaves_out_the_dead():
    atoms = [
        Atom(i, 1, share, 1.0, 1.0, (1,), purity=share, stability=share) for i, share in enumerate([0.1, 0.2, 0.6])
    ]
    assert table(*atoms, DEAD).facts() == (
        ("active atoms", "3 of 4"),
        ("median frequency", "20.0 %"),
        ("median purity", "0.20"),
        ("median stability", "0.20"),
    )
    assert table(DEAD).facts() == (("active atoms", "0 of 1"),)


@pytest.mark.parametrize("text", ["</script><script>", "<!--", "a & b", "\u2028\u2029", '"quoted\\"'])
def test_text_cannot_leave_a_script(text):
    written = to_script([text])
    assert json.loads(written) == [text]
    assert not set(written) & set("<>&\u2028\u2029")


def test_no_nan_is_written():
    with pytest.raises(ValueError, match="JSON"):
        to_script(float("nan"))
