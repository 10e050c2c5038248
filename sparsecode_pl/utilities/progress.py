"""Progress of long work on the terminal: one display, with a line for each running piece of work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from logging import StreamHandler, getLogger
from multiprocessing import current_process
from typing import Any, Self

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display
from rich.text import Text

# The display of the outermost piece of work. Work within it adds lines.
_display: ContextVar[Display | None] = ContextVar("display", default=None)
# What the work under way belongs to; it stands before the descriptions.
_title: ContextVar[str] = ContextVar("title", default="")
_TITLE_WIDTH = 32
# Their handlers write to the standard error that they were made with, past the display.
_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")


@contextmanager
def titled(title: str) -> Iterator[None]:
    """Name what the work inside belongs to."""
    token = _title.set(title if len(title) <= _TITLE_WIDTH else title[: _TITLE_WIDTH - 1] + "…")
    try:
        yield
    finally:
        _title.reset(token)


class Progress:
    """A line that shows how much work is done and how much time is left; a context manager.

    Work within other work adds its line below the outer one, and removes it at the end, so that nothing scrolls. Only
    the first process shows anything.

    Args:
        description: the work.
        total: amount of work, None if unknown.
        unit: unit of the amount.
        done: amount that was done before; it does not count for the speed.
        rate: whether to show the amount per second.
    """

    def __init__(
        self, description: str, total: float | None, unit: str = "", *, done: float = 0, rate: bool = True
    ) -> None:
        self._description, self._total = description, total
        self._fields = {"unit": unit, "before": done, "rate": rate, "note": ""}
        self._own: Display | None = None

    def __enter__(self) -> Self:
        display = _display.get()
        if display is None:
            self._own = display = _new_display()
            self._token = _display.set(display)
            display.start()
            self._handlers = _redirect_logs()
        self._shown = display
        before: float = self._fields["before"]  # type: ignore[assignment]
        self._task = display.add_task(_entitled(self._description), total=self._total, completed=before, **self._fields)  # type: ignore[arg-type]
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is None:
            self._shown.remove_task(self._task)
        else:
            self._own.stop()
            for handler, stream in self._handlers:
                handler.setStream(stream)
            _display.reset(self._token)
            self._own = None

    def advance(self, amount: float) -> None:
        """Add to the amount done."""
        self._shown.advance(self._task, amount)

    def begin(self, description: str, total: float | None) -> None:
        """Restart the line for the next piece of work."""
        fields = {**self._fields, "before": 0, "note": ""}
        self._shown.reset(self._task, description=_entitled(description), total=total, **fields)  # type: ignore[arg-type]
        if total is None:  # which rich takes for no change
            self._shown.tasks[self._shown.task_ids.index(self._task)].total = None

    def set(self, completed: float, note: str = "") -> None:
        """Set the amount done.

        Args:
            completed: amount done in total.
            note: text at the end of the line.
        """
        self._shown.update(self._task, completed=completed, note=note)


def _entitled(description: str) -> str:
    title = _title.get()
    return f"{title}: {description}" if title else description


def _redirect_logs() -> list[tuple[StreamHandler[Any], Any]]:
    """Let Lightning's messages appear above the display, which has taken the place of the standard error by now."""
    found = [handler for name in _LOGGERS for handler in getLogger(name).handlers if type(handler) is StreamHandler]
    return [(handler, stream) for handler in found if (stream := handler.setStream(sys.stderr)) is not None]


def shows_progress() -> bool:
    """Whether there is a terminal to show progress on."""
    return Console().is_terminal


def _new_display() -> Display:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Amount(),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
    )
    # The displays of fits that run in parallel processes would overwrite each other.
    hidden = getattr(rank_zero_only, "rank", 0) not in (0, None) or current_process().name != "MainProcess"
    return Display(*columns, disable=hidden, refresh_per_second=4)


class _Amount(ProgressColumn):
    """The amount done, the total and the amount per second."""

    def render(self, task: Task) -> Text:
        if task.total is None and not task.completed:
            return Text("")
        amount = f"{task.completed:,.0f}" + ("" if task.total is None else f" of {task.total:,.0f}")
        speed = (task.finished_speed or task.speed) if task.fields["rate"] else None
        rate = "" if not speed else f", {speed:,.0f}/s" if speed >= 10 else f", {speed:.2g}/s"
        return Text(f"{amount} {task.fields['unit']}{rate}".rstrip())


class _TimeLeft(ProgressColumn):
    """The time left at the average speed so far."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["before"]
        if task.total is None or task.finished or done <= 0 or task.elapsed is None:
            return Text("")
        return Text(f"{duration(task.elapsed / done * (task.total - task.completed))} left")


def duration(seconds: float) -> str:
    """A time in words.

    Example:
        >>> duration(5), duration(90), duration(4000)
        ('5 s', '1 min 30 s', '1 h 6 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"
