import io
import logging
import sys

import pytest
from rich.console import Console

from sparsecode_pl.utilities import progress
from sparsecode_pl.utilities.progress import Progress, titled


@pytest.fixture
def screen(monkeypatch):
    """A terminal, as text."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, color_system=None)
    display = progress.Display
    monkeypatch.setattr(progress, "Display", lambda *columns, **options: display(*columns, console=console, **options))
    return written


def shown(line):
    """The lines of the display that a piece of work belongs to."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(line._shown.get_renderable())
    return [" ".join(text.split()) for text in console.file.getvalue().splitlines() if text.strip()]


def test_work_within_work_stands_below_it_and_is_taken_away_when_it_is_done(screen):
    with Progress("fits", 3, rate=False) as whole:
        with Progress("round 1", 10, unit="batches") as part:
            part.set(4, "lam 0.1")
            first, second = shown(whole)
            assert "fits" in first
            assert "0 of 3" in first
            assert "4 of 10 batches" in second
            assert second.endswith("lam 0.1")
            part.begin("scoring", None)
            assert "scoring" in shown(whole)[1]
        whole.advance(1)
        (line,) = shown(whole)
        assert "1 of 3" in line
        assert line.endswith("left")
    assert progress._display.get() is None


def test_a_title_stands_before_the_work_that_belongs_to_it(screen):
    with Progress("fits", 3), titled("a name of more than thirty-two letters"), Progress("preparing", None) as part:
        assert shown(part)[1].startswith("⠋ a name of more than thirty-two …: preparing")
        part.begin("round 1", 5)
        assert "…: round 1" in shown(part)[1]
    assert progress._title.get() == ""


def test_messages_of_lightning_go_above_the_display_and_back_to_where_they_went(screen):
    handler = logging.StreamHandler(io.StringIO())
    before = handler.stream
    logging.getLogger("lightning.pytorch").addHandler(handler)
    try:
        with Progress("fits", 3):
            assert handler.stream is sys.stderr
        assert handler.stream is before
    finally:
        logging.getLogger("lightning.pytorch").removeHandler(handler)


def test_what_was_done_before_tells_nothing_of_the_time_left(screen):
    with Progress("fits", 10, done=4, rate=False) as whole:
        (line,) = shown(whole)
        assert "4 of 10" in line
        assert "left" not in line


def test_after_an_exception_the_next_display_is_a_new_one(screen):
    with pytest.raises(ZeroDivisionError), Progress("fits", 1):
        raise ZeroDivisionError
    assert progress._display.get() is None
    with Progress("again", 1) as whole:
        assert len(shown(whole)) == 1


def test_brackets_in_a_name_are_just_that(screen):
    with Progress("[red]layer[/red]", 1) as whole:
        assert "[red]layer[/red]" in shown(whole)[0]
