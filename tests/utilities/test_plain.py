import json
import math

import pytest

from sparsecode_pl.utilities.plain import to_json


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
