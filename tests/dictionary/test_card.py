import json
import math
import re

import pytest

from sparsecode_pl.dictionary import Card

CARD = Card(
    data="toy layer 3",
    model="toy",
    layer="3",
    source={"text": "a.txt", "first": 100},
    rows={"train": 9000, "heldout": 1000},
    seed=7,
    versions={"torch": "2.6"},
    scores={"S1": 2.5, "heldout_S1": 2.75, "L_norm": math.nan},
    controls={"Gaussian": {"S1": 9.0, "heldout_S1": math.inf}},
)


def lines(text):
    """The lines of the tables, as lists of their cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_it_comes_back_from_strict_json():
    card = Card.from_plain(json.loads(json.dumps(CARD.plain(), allow_nan=False)))
    assert math.isnan(card.scores["L_norm"])
    assert math.isnan(card.controls["Gaussian"]["heldout_S1"])  # JSON has one word for what is not finite
    numbers = {"scores": {"S1": 2.5, "heldout_S1": 2.75}, "controls": {"Gaussian": {"S1": 9.0}}}
    assert card.scores.items() >= numbers["scores"].items()
    assert card.controls["Gaussian"].items() >= numbers["controls"]["Gaussian"].items()
    for name in ("data", "model", "layer", "source", "rows", "seed", "versions"):
        assert getattr(card, name) == getattr(CARD, name), name


def test_an_empty_card_comes_back():
    assert Card.from_plain(Card().plain()) == Card() == Card.from_plain({})


def test_entries_of_a_later_version_are_left_out():
    assert Card.from_plain({**Card(data="toy").plain(), "mood": "good"}) == Card(data="toy")


def test_each_kind_of_rows_has_its_s1_and_the_most_telling_one_the_other_scores():
    scores = {"S1": 2.5, "heldout_S1": 2.75, "unseen_S1": 4.0, "N0": 8.0, "unseen_N0": 12.0, "unseen_lam": 0.25}
    controls = {"Gaussian": {"S1": 9.0, "unseen_S1": math.inf, "unseen_N0": 30.0}, "Copies": {"S1": 1.5, "N0": 1.0}}
    intervals = {"S1": (2.25, 2.75), "unseen_S1": (3.5, 4.5), "unseen_N0": (11.0, 13.0)}
    others = {"Gaussian": {"unseen_S1": (8.0, math.nan), "unseen_S1_ratio": (0.1, 0.2)}}
    card = Card("text", scores=scores, controls=controls, intervals=intervals, control_intervals=others)
    card = Card.from_plain(json.loads(json.dumps(card.plain(), allow_nan=False)))
    assert card.intervals == intervals
    text = card.text(12, 5, 0.125)
    heading, _, data, gaussian, copies = lines(text)[:5]
    names = ["S1, training rows", "S1, held-out rows", "S1, unseen tokens", "L_norm", "N0", "explained_variance"]
    assert heading == ["", *names]
    assert data == ["**text**", "2.50", "2.75", "4.00 [3.50, 4.50]", "", "12.0", ""]
    assert gaussian == ["Gaussian", "9.00", "", "nan [8.00, nan]", "", "30.0", ""]
    assert copies == ["Copies", "1.50", "", "", "", "", ""]  # N0 of training rows would be held against another's
    assert "L_norm, N0 and explained_variance are those of unseen tokens." in text
    assert "[ ]: 95 % interval" in text
    assert dict(line for line in lines(text) if len(line) == 2)["penalty, unseen tokens"] == "0.25"


def test_a_card_without_intervals_is_read_and_shown_as_before():
    old = {name: value for name, value in CARD.plain().items() if "intervals" not in name}
    text = Card.from_plain(old).text(12, 5, 0.125)
    table = lines(text)
    assert table[0] == ["", "S1, training rows", "S1, held-out rows", "L_norm", "N0", "explained_variance"]
    assert table[2] == ["**toy layer 3**", "2.50", "2.75", "", "", ""]
    assert table[3] == ["Gaussian", "9.00", "nan", "", "", ""]
    assert "[ ]" not in text


@pytest.mark.parametrize("content", [[], {"S1": [1.0]}, {"S1": 2.0}])
def test_intervals_that_are_no_pairs_are_refused(content):
    for card in ({"intervals": content}, {"control_intervals": {"Gaussian": content}}):
        with pytest.raises(ValueError, match=r"the card's (control_)?intervals"):
            Card.from_plain(card)


def test_its_origin_is_told():
    facts = dict(line for line in lines(CARD.text(12, 5, 0.125)) if len(line) == 2)
    expected = {"penalty": "0.125", "model": "toy", "layer": "3", "seed": "7", "train rows": "9,000", "torch": "2.6"}
    assert facts.items() >= expected.items()
    assert facts["source: text"] == "a.txt"
    assert facts["source: first"] == "100"


def test_what_is_not_known_is_not_told():
    text = Card().text(12, 5, math.nan)
    for word in ("penalty", "model |", "layer", "seed", "S1", "None", "nan"):
        assert word not in text
    assert "# Sparse dictionary\n" in text
    assert "12 atoms of width 5" in text


@pytest.mark.parametrize("beside", [True, False])
def test_without_controls_it_says_so(beside):
    card = Card(data="toy", scores={"S1": 2.0}, controls={"Gaussian": {"S1": 9.0}} if beside else {})
    text = card.text(12, 5, 0.1)
    assert ("It was measured without controls" in text) is not beside
    assert "held-out rows" not in text  # there are none


@pytest.mark.parametrize("name", ["a | b", "<script>", "`code`", "two\nlines", "[link](x)", "*bold* _words_"])
def test_names_are_no_markup_and_stay_in_their_cells(name):
    card = Card(data=name, source={"from": name}, scores={"S1": 2.0}, controls={name: {"S1": 3.0}})
    bare = re.sub(r"\\[\\|<>`*_\[\]]", "", card.text(12, 5, 0.1).replace("**", ""))  # without what is escaped
    rows = lines(bare)
    assert [len(row) for row in rows] == [5] * 4 + [2] * 4
    for row in (rows[2], rows[3], rows[-1]):
        assert not set("<>`*_[]") & set("".join(row))
