"""What the pictures show; that they can be drawn of any records is tested with the report."""

import math

import pytest
from matplotlib.collections import PolyCollection
from PIL import Image

from sparsecode_pl.measurement.frontier import draw_frontier, frontier_figure
from sparsecode_pl.measurement.picture import draw, draw_bars, draw_layers, question


def record(name, s1, unseen=None, **more):
    scores = {"S1": s1, "L_norm": 1.3 * s1, "N0": 4 * s1, "explained_variance": 0.9}
    kinds = {"": 1.0, "heldout_": 1.1} | ({} if unseen is None else {"unseen_": unseen})
    every = {f"{prefix}{name}": times * value for prefix, times in kinds.items() for name, value in scores.items()}
    return {"data": name, **every, **more}


def lengths(axes, records):
    """Of the bars; the transparent ones carry labels."""
    bars = [container.patches for container in axes.containers if hasattr(container, "patches")]
    seen = [[bar.get_width() for bar in group] for group in bars if group[0].get_alpha() != 0]
    assert all(len(group) == len(records) for group in seen)
    return seen


def marks(axes):
    """Where the marks of the other rows stand, by their label."""
    found = {each.get_label(): each.get_offsets() for each in axes.collections if len(each.get_offsets())}
    return {label: each[:, 0].tolist() for label, each in found.items() if label[0] != "_"}


def whiskers(axes):
    """Ends of the whiskers of each bar."""
    (errors,) = (container.errorbar for container in axes.containers if getattr(container, "errorbar", None))
    return [[float(x) for x in segment[:, 0]] for segment in errors.lines[2][0].get_segments()]


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def test_the_bars_are_those_of_held_out_rows_and_the_marks_of_training_rows():
    records = [record("x", 2.0), record("Gaussian", 30.0, control_of="x")]
    figure = draw_bars(records)
    left, right = figure.axes
    assert lengths(left, records) == [pytest.approx([2.2, 33.0])]
    assert lengths(right, records) == [pytest.approx([2.86, 42.9])]
    assert marks(left) == {"training rows": pytest.approx([2.0, 30.0])}
    assert marks(right) == {"training rows": pytest.approx([2.6, 39.0])}
    assert {text.get_text() for text in left.texts} == {"2.20", "33.0"}
    assert legend(figure) == ["training rows", "held-out rows"]


def test_where_there_are_unseen_tokens_the_bars_are_theirs():
    records = [record("x", 2.0, unseen=2.0), record("Gaussian", 30.0, unseen=3.0, control_of="x")]
    figure = draw_bars(records)
    left, _ = figure.axes
    assert lengths(left, records) == [pytest.approx([4.0, 90.0])]
    assert marks(left) == {"training rows": pytest.approx([2.0, 30.0]), "held-out rows": pytest.approx([2.2, 33.0])}
    assert sorted(legend(figure)) == ["held-out rows", "training rows", "unseen tokens"]


def test_a_control_without_unseen_tokens_has_no_bar_among_theirs():
    records = [record("x", 2.0, unseen=2.0), record("Gaussian", 30.0, control_of="x")]
    assert lengths(draw_bars(records).axes[0], records) == [pytest.approx([4.0, math.nan], nan_ok=True)]


def test_training_rows_alone_have_the_bars():
    (only,) = records = [{"data": "x", "S1": 2.0, "L_norm": 2.6}]
    figure = draw_bars(records)
    assert lengths(figure.axes[0], records) == [[only["S1"]]]
    assert marks(figure.axes[0]) == {}
    assert legend(figure) == ["training rows"]


def test_whiskers_are_the_intervals_of_the_bars():
    intervals = {"S1": (1.0, 9.0), "heldout_S1": (2.0, 2.7), "heldout_L_norm": (2.5, 3.0)}
    records = [record("x", 2.0, intervals=intervals), record("Gaussian", 30.0, control_of="x")]
    left, right = draw_bars(records).axes
    assert whiskers(left) == [pytest.approx([2.0, 2.7]), pytest.approx([33.0, 33.0])]
    assert whiskers(right)[0] == pytest.approx([2.5, 3.0])


def test_the_data_is_set_off_from_its_controls():
    figure = draw_bars([record("x", 2.0), record("Gaussian", 30.0, control_of="x")])
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["x", "Gaussian"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal"]
    data, control = figure.axes[0].patches[:2]
    assert (data.get_width(), control.get_width()) == (2.2, 33.0)
    assert data.get_facecolor() != control.get_facecolor()


def test_exact_codes_are_outlines_with_their_figure_in_brackets():
    records = [record("x", 2.0, exact_S1=2.5, heldout_exact_S1=2.75, coding_gap=0.1)]
    figure = draw_bars(records)
    left, _ = figure.axes
    assert lengths(left, records) == [pytest.approx([width]) for width in (2.2, 2.75)]
    assert {text.get_text() for text in left.texts} == {"2.20 (2.75)"}
    assert "exact codes (in brackets)" in legend(figure)


def test_the_known_truth_is_marked():
    figure = draw_bars([record("x", 2.0, half_active=2.5, oracle_S1=3.1)])
    lines = [each for each in figure.axes[0].collections if each.get_label() in ("a/2", "S1 of the true codes")]
    assert {each.get_segments()[0][0][0] for each in lines} == {2.5, 3.1}
    assert {"a/2", "S1 of the true codes"} <= set(legend(figure))


def layers(intervals=True, **settings):
    """Two measured layers, each with a control."""
    ends = {"S1": (1.5, 2.5), "heldout_S1": (2.0, 2.4), "unseen_S1": (3.0, 6.0)}
    found = []
    for number in range(2):
        place = {"model": "m", "layer": str(number)} | ({"intervals": ends} if intervals else {})
        found.append(record(f"m layer {number}", 2.0 + number, **place, **settings))
        found.append(record("Gaussian", 30.0, **place, **settings, control_of=f"m layer {number}"))
    return found


def curves(axes):
    return {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}


def bands(axes):
    """Lower and upper end of each band at each of its points."""
    paths = [each.get_paths()[0].vertices for each in axes.collections if isinstance(each, PolyCollection)]
    return [[(min(v[v[:, 0] == x, 1]), max(v[v[:, 0] == x, 1])) for x in range(2)] for v in paths]


def test_layers_have_a_panel_for_the_most_telling_rows_and_one_for_training_rows():
    figure = draw_layers(layers(unseen=2.0))
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["S1, unseen tokens", "S1, training rows", "L_norm, unseen tokens"]
    telling, training, loss = (curves(axes) for axes in figure.axes)
    assert telling == {"the data": pytest.approx([4.0, 6.0]), "Gaussian": pytest.approx([60.0, 60.0])}
    assert training == {"the data": pytest.approx([2.0, 3.0]), "Gaussian": pytest.approx([30.0, 30.0])}
    assert loss["the data"] == pytest.approx([5.2, 7.8])


def test_curves_of_layers_have_bands_for_their_intervals():
    figure = draw_layers(layers(unseen=2.0))
    assert bands(figure.axes[0]) == [[(3.0, 6.0)] * 2] * 2  # data and control
    assert bands(figure.axes[1]) == [[(1.5, 2.5)] * 2] * 2
    assert bands(figure.axes[2]) == []  # these have no intervals
    assert "95 % intervals" in figure.get_suptitle()
    plain = draw_layers(layers(intervals=False))
    assert not any(bands(axes) for axes in plain.axes)
    assert "intervals" not in plain.get_suptitle()


def frontier(name, scores, **more):
    """A record with scores at shares of the variance."""
    levels = [
        {"share": share, "S1": s1, "heldout_S1": 2 * s1, "intervals": {"heldout_S1": (s1, 3 * s1)}}
        for share, s1 in scores.items()
    ]
    return record(name, 1.0, frontier=levels, **more)


def test_the_frontier_has_curves_of_data_and_controls_against_the_share():
    groups = [[frontier("x", {0.9: 5.0, 0.8: 3.0}), frontier("Gaussian", {0.8: 30.0}, control_of="x")]]
    figure = frontier_figure(groups)
    top = figure.axes[0]
    places = {line.get_label(): line.get_xdata().tolist() for line in top.get_lines()}
    assert places == {"the data": [0.8, 0.9], "Gaussian": [0.8]}  # what was not reached is left out
    assert curves(top) == {"the data": [6.0, 10.0], "Gaussian": [60.0]}
    band = next(each for each in top.collections if each.get_paths()[0].vertices[:, 0].max() == 0.9)
    assert (band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()) == (3.0, 15.0)
    assert "held-out rows" in figure.get_suptitle()


def test_the_frontier_of_several_data_has_a_column_for_each(tmp_path):
    records = [
        frontier("x", {0.8: 3.0, 0.9: 5.0}),
        frontier("Gaussian", {0.8: 30.0, 0.9: 40.0}, control_of="x"),
        frontier("y", {0.8: 2.0, 0.9: 3.0}),
        record("z", 2.0),
    ]
    figure = frontier_figure([records[:2], records[2:3]])
    assert len(figure.axes) == 6  # S1, L_norm and N0
    draw_frontier(records, tmp_path / "frontier.png")
    with Image.open(tmp_path / "frontier.png") as image:
        assert image.format == "PNG"


def test_without_several_shares_no_frontier_is_drawn(tmp_path):
    draw_frontier([record("x", 2.0)], tmp_path / "frontier.png")
    assert not list(tmp_path.iterdir())


def test_the_title_is_the_question():
    assert question([record("x", 2.0), record("Gaussian", 3.0, control_of="x")]) == "How sparse is x?"
    assert question([record("x", 2.0), record("y", 3.0)]) == "How sparse are x, y?"
    measured = layers()
    assert question(measured) == "How sparse are the layers of m?"
    assert question([*measured, record("y", 2.0)]) == "How sparse are m, y?"


@pytest.mark.parametrize("records", [[], [record("Gaussian", 3.0, control_of="x")], [{"data": "x", "error": "E"}]])
def test_without_measured_data_nothing_is_written(tmp_path, records):
    draw(records, tmp_path / "sparsity.png")
    assert not list(tmp_path.iterdir())


def test_a_score_that_is_not_a_number_leaves_the_others_as_they_are():
    records = [record("x", math.nan), record("Gaussian", 30.0, control_of="x")]
    left, _ = draw_bars(records).axes
    assert lengths(left, records) == [pytest.approx([math.nan, 33.0], nan_ok=True)]
