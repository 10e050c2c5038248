import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sparsecode_pl.analysis.pages.histogram import Histogram


def bars(svg: str) -> list[tuple[float, float]]:
    """Left end and height of each bar."""
    return [(float(x), float(height)) for x, height in re.findall(r"M([\d.]+) 106v-([\d.]+)h", svg)]


def test_bars_are_as_high_as_the_counts():
    svg = Histogram([0.1, 1.0, 10.0, 100.0, 1000.0]).draw([4, 0, 2, 1])
    assert bars(svg) == [(44.0, 96.0), (244.0, 48.0), (344.0, 24.0)]
    assert 'aria-label="Histogram of 7 coefficients between 0.100 and 1000; at most 4 in a bin"' in svg


def test_one_of_very_many_is_still_seen():
    assert bars(Histogram([1.0, 2.0, 4.0]).draw([10**6, 1]))[1][1] == 1.0


def test_ticks_lie_at_their_values():
    edges = np.geomspace(0.02, 300, 41)
    svg = Histogram(tuple(edges)).draw([1] * 40)
    ticks = re.findall(r"<text x=([\d.]+) y=\d+ text-anchor=middle>([\d.e-]+)<", svg)
    assert 3 <= len(ticks) <= 7
    for x, label in ticks:
        share = math.log(float(label) / 0.02) / math.log(300 / 0.02)
        assert float(x) == pytest.approx(44 + 400 * share, abs=0.06)


@pytest.mark.parametrize("edges", [(0.0, 1.0, 2.0), (1.0, 2.0, math.inf), (3.0, 3.5, 4.0)])
def test_edges_that_give_no_ticks_are_drawn_all_the_same(edges):
    assert len(bars(Histogram(edges).draw([1, 1]))) == 2


def test_nothing_is_drawn_of_nothing():
    assert Histogram([1.0, 2.0]).draw([0]) == ""
    assert Histogram([]).draw([]) == ""


def test_it_is_whole():
    svg = Histogram([1.0, 10.0, 100.0]).draw([1, 2])
    quoted = re.sub(r"=([\w.-]+)(?=[ />])", r'="\1"', str(svg))
    assert ElementTree.fromstring(quoted).tag == "svg"  # noqa: S314
