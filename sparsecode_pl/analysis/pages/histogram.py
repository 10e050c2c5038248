"""The histogram of an atom's coefficients, as SVG."""

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from sparsecode_pl.analysis.pages.numbers import short

_WIDTH, _HEIGHT = 400, 96  # of the bars, in units of the drawing
_LEFT, _TOP, _BELOW = 44, 10, 20
_LABELS = 7  # at most, below the bars


class Histogram:
    """Draws histograms over the same bins.

    Args:
        edges: of the bins, increasing, one more than there are bins. All bins are drawn equally wide.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._step = _WIDTH / max(len(edges) - 1, 1)
        self._axis = self._draw_axis()

    def draw(self, counts: Sequence[int]) -> Markup:
        """The SVG of these counts; empty where all are zero.

        Args:
            counts: of coefficients, one for each bin.
        """
        highest = max(counts, default=0)
        if highest == 0:
            return Markup("")
        total = sum(counts)
        full = [bin_ for bin_, count in enumerate(counts) if count]
        bars = "".join(self._bar(bin_, max(1.0, _HEIGHT * counts[bin_] / highest)) for bin_ in full)
        said = (
            f"Histogram of {total} coefficients between {short(self._edges[full[0]])}"
            f" and {short(self._edges[full[-1] + 1])}; at most {highest} in a bin"
        )
        size = f"{_LEFT + _WIDTH + 12} {_TOP + _HEIGHT + _BELOW}"
        most = f"<text x={_LEFT - 6} y={_TOP + 4} text-anchor=end>{highest}</text>"
        return Markup(  # noqa: S704  numbers alone
            f'<svg class=hist viewBox="0 0 {size}" role=img aria-label="{said}">'
            f'{most}<path class=bars d="{bars}"/>{self._axis}</svg>'
        )

    def _bar(self, bin_: int, height: float) -> str:
        left = _LEFT + bin_ * self._step
        return f"M{left:.1f} {_TOP + _HEIGHT}v-{height:.1f}h{self._step - 1:.1f}v{height:.1f}z"

    def _draw_axis(self) -> str:
        bottom = _TOP + _HEIGHT
        marks = [
            f'<path class=axis d="M{_LEFT} {bottom}h{_WIDTH}"/><text x={_LEFT - 6} y={bottom} text-anchor=end>0</text>'
        ]
        for value, bin_ in self._ticks():
            x = _LEFT + bin_ * self._step
            marks.append(f'<path class=axis d="M{x:.1f} {bottom}v4"/>')
            marks.append(f"<text x={x:.1f} y={bottom + 16} text-anchor=middle>{value:g}</text>")
        return "".join(marks)

    def _ticks(self) -> list[tuple[float, float]]:
        """Round values, and where between the bins they are."""
        low, high = (min(self._edges), max(self._edges)) if len(self._edges) > 1 else (0.0, 0.0)
        if low <= 0 or not math.isfinite(high):
            return []
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [factor * 10.0**decade for decade in decades for factor in factors]
            values = [value for value in values if low <= value <= high]
            if len(values) <= _LABELS:
                break
        return [(value, self._place(value)) for value in values]

    def _place(self, value: float) -> float:
        for bin_, (left, right) in enumerate(pairwise(self._edges)):
            if value <= right:
                return bin_ + math.log(value / left) / math.log(right / left)
        return len(self._edges) - 1.0
