"""What the pictures show; that they can be drawn of any records is tested with the report."""

import math

import pytest

from sparsecode_pl.measurement.picture import draw, draw_bars, question


def record(name, s1, **more):
    scores = {"S1": s1, "L_norm": 1.3 * s1, "explained_variance": 0.9}
    return {"data": name, **scores, **{f"heldout_{key}": 1.1 * value for key, value in scores.items()}, **more}


def lengths(axes, records):
    """Of the bars of the training rows, then of those of the held-out rows; the transparent ones carry labels."""
    bars = [container.patches for container in axes.containers if hasattr(container, "patches")]
    seen = [[bar.get_width() for bar in group] for group in bars if group[0].get_alpha() != 0]
    assert all(len(group) == len(records) for group in seen)
    return seen


def test_the_bars_are_as_long_as_the_scores():
    records = [record("x", 2.0), record("Gaussian", 30.0, control_of="x")]
    left, right = draw_bars(records).axes
    assert lengths(left, records) == [pytest.approx([2.0, 30.0]), pytest.approx([2.2, 33.0])]
    assert lengths(right, records) == [pytest.approx([2.6, 39.0]), pytest.approx([2.86, 42.9])]
    assert {text.get_text() for text in left.texts} == {"2.00", "30.0", "2.20", "33.0"}


def test_the_data_is_set_off_from_its_controls():
    figure = draw_bars([record("x", 2.0), record("Gaussian", 30.0, control_of="x")])
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["x", "Gaussian"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal"]
    data, control = figure.axes[0].patches[:2]
    assert (data.get_width(), control.get_width()) == (2.0, 30.0)
    assert data.get_facecolor() != control.get_facecolor()


def test_exact_codes_are_outlines_with_their_figure_in_brackets():
    records = [record("x", 2.0, exact_S1=2.5, heldout_exact_S1=2.75, coding_gap=0.1)]
    left, _ = draw_bars(records).axes
    assert lengths(left, records) == [pytest.approx([width]) for width in (2.0, 2.5, 2.2, 2.75)]
    assert {text.get_text() for text in left.texts} == {"2.00 (2.50)", "2.20 (2.75)"}


def test_the_known_truth_is_marked():
    left, right = draw_bars([record("x", 2.0, half_active=2.5, oracle_S1=3.1)]).axes
    marks = {lines.get_segments()[0][0][0] for lines in left.collections if len(lines.get_segments()) == 1}
    assert marks >= {2.5, 3.1}
    assert {text.get_text() for text in left.get_legend().get_texts()} == {"a/2", "S1 of the true codes"}
    assert right.get_legend() is None


def test_the_title_is_the_question():
    assert question([record("x", 2.0), record("Gaussian", 3.0, control_of="x")]) == "How sparse is x?"
    assert question([record("x", 2.0), record("y", 3.0)]) == "How sparse are x, y?"
    layers = [record(f"m layer {layer}", 2.0, model="m", layer=layer) for layer in "01"]
    assert question(layers) == "How sparse are the layers of m?"
    assert question([*layers, record("y", 2.0)]) == "How sparse are m, y?"


@pytest.mark.parametrize("records", [[], [record("Gaussian", 3.0, control_of="x")], [{"data": "x", "error": "E"}]])
def test_without_measured_data_nothing_is_written(tmp_path, records):
    draw(records, tmp_path / "sparsity.png")
    assert not list(tmp_path.iterdir())


def test_a_score_that_is_not_a_number_leaves_the_others_as_they_are():
    records = [record("x", math.nan), record("Gaussian", 30.0, control_of="x")]
    left, _ = draw_bars(records).axes
    assert lengths(left, records)[0] == pytest.approx([math.nan, 30.0], nan_ok=True)
