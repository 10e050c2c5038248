"""What the suites of reliability share: a short form for CI, a long form with figures (`make reliability`)."""

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OURS = {"sparsecode_pl", "sparsecode_control", "sparsecode_synthetic", "sparsecode_transformer"}
REFUSALS = (ValueError, TypeError, OSError, RuntimeError, ImportError)

_COUNTS: Counter[tuple[str, str]] = Counter()


def _ours(error: BaseException) -> bool:
    """Whether an exception was raised by a line of this project, not below it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return bool(OURS & set(Path(frame.filename).parts))


@pytest.fixture(scope="session")
def attempt() -> Callable[..., Any]:
    """Calls something with input that may be bad, and counts what comes of it.

    Returns the answer, or None if the input was refused in words of our own. What is raised elsewhere fails the test.
    """

    def attempted(suite: str, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except REFUSALS as error:
            if not _ours(error):
                raise
            if not str(error):
                raise
            _COUNTS[suite, f"refused ({type(error).__name__})"] += 1
            return None
        _COUNTS[suite, "answered"] += 1
        return answer

    return attempted


@pytest.fixture(scope="session")
def counted() -> Callable[[str, str], None]:
    """Counts an outcome of another kind."""

    def count(suite: str, outcome: str) -> None:
        _COUNTS[suite, outcome] += 1

    return count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how often each outcome occurred."""
    if _COUNTS:
        terminalreporter.section("outcomes of the suites of reliability")
        for (suite, outcome), number in sorted(_COUNTS.items()):
            terminalreporter.write_line(f"{suite}: {outcome}: {number:,}")
        terminalreporter.write_line(f"in all: {sum(_COUNTS.values()):,}")
