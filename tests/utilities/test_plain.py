import json
import math
from typing import Any, NotRequired, TypedDict

import pytest

from sparsecode_pl.utilities.plain import check_type, parse_json, to_json


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_no_word_for_become_null(value):
    assert to_json(value) is None
    assert to_json({"a": [1.5, {"b": (value, 2)}]}) == {"a": [1.5, {"b": [None, 2]}]}


def test_everything_else_stays_as_it_is():
    value = {"word": "nan", "none": None, "true": True, "number": 3, "least": 5e-324, "list": [], "empty": {}}
    assert to_json(value) == value
    assert to_json(value)["true"] is True


def test_names_become_words_and_the_result_can_be_written_strictly():
    written = json.dumps(to_json({1: math.nan, None: (math.inf,)}), allow_nan=False)
    assert json.loads(written) == {"1": None, "None": [None]}


def test_the_value_given_is_not_changed():
    value = {"a": [math.inf]}
    to_json(value)
    assert value == {"a": [math.inf]}


class Entry(TypedDict):
    rows: int
    name: NotRequired[str | None]


FITTING = [
    *(
        (3, int),
        (3, float),
        (0.5, float),
        (True, bool),
        (None, str | None),
        ("a", str | None),
        ([1, None], list[int | None]),
    ),
    *(({"a": 1.5}, dict[str, float]), ([1, 2], tuple[int, float]), ({"rows": 1, "more": []}, Entry), (object, Any)),
]
OTHER = [
    *((True, int), ("3", int), (3.0, int), (True, float), (math.nan, float), (math.inf, float), (10**400, float)),
    *(
        (None, str),
        ([1, "a"], list[int]),
        ({"a": "b"}, dict[str, int]),
        ({1: 2}, dict[str, int]),
        ([1], tuple[int, int]),
    ),
    *(({}, Entry), ({"rows": "1"}, Entry), ({"rows": 1, "name": 2}, Entry), ([], Entry)),
]


@pytest.mark.parametrize(("value", "wanted"), FITTING)
def test_values_of_their_type_are_let_through(value, wanted):
    check_type("it", value, wanted)


@pytest.mark.parametrize(("value", "wanted"), OTHER)
def test_values_of_another_type_are_refused(value, wanted):
    with pytest.raises(ValueError, match=r"^it"):
        check_type("it", value, wanted)


def test_the_place_of_a_value_of_another_type_is_named():
    with pytest.raises(ValueError, match=r"it\['a'\]\[1\] is 'x', not a number"):
        check_type("it", {"a": [1, "x"]}, dict[str, list[float] | None])


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b'{"a": NaN}', b'{"a": Infinity}', b'{"a":' * 10**5, b"{" * 10**5]
)
def test_what_is_no_json_object_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        parse_json(content)
