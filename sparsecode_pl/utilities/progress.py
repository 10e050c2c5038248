"""A bar for long work outside of Lightning's trainer."""

from typing import Self

from lightning.pytorch.utilities import rank_zero_only
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text


class Progress:
    """A progress bar with the rate and the time left, on the first process alone; a context manager.

    Args:
        description: what is being done.
        total: how much there is to do, None if unknown.
        unit: of what, for the rate.
    """

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(unit),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, disable=getattr(rank_zero_only, "rank", 0) != 0)
        self._task = self._bar.add_task(description, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, amount: float) -> None:
        """So much more is done."""
        self._bar.advance(self._task, amount)


class _Amount(ProgressColumn):
    """How much of how much, and how much a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        amount = f"{task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}")
        speed = task.finished_speed or task.speed
        rate = "" if not speed else f", {speed:,.0f}/s" if speed >= 10 else f", {speed:.2g}/s"
        return Text(f"{amount} {self.unit}{rate}")
