"""What the suites of reliability share: a short form for CI, a long form with figures (`make reliability`)."""

import dis
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

OURS = {"sparsecode_pl", "sparsecode_control", "sparsecode_synthetic", "sparsecode_transformer"}
REFUSALS = (ValueError, TypeError, OSError, RuntimeError, ImportError)

_COUNTS: Counter[tuple[str, str]] = Counter()


def _ours(error: BaseException) -> bool:
    """Whether an exception was raised by a `raise` of this project: not below it, nor by a slip in one of its lines."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    raised = code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and bool(OURS & set(Path(code.co_filename).parts))


@pytest.fixture(scope="session")
def attempt() -> Callable[..., Any]:
    """Calls something with input that may be bad, and counts what comes of it.

    Returns the answer, or None if the input was refused in words of our own. What is raised elsewhere fails the test.
    """

    def attempted(suite: str, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except REFUSALS as error:
            if not (_ours(error) and str(error)):
                raise
            _COUNTS[suite, f"refused ({type(error).__name__})"] += 1
            return None
        _COUNTS[suite, "answered"] += 1
        return answer

    return attempted


@pytest.fixture(scope="session")
def fuzz(long: bool) -> Callable[..., Callable[[Callable[..., None]], None]]:
    """Decorates a function that is called at once with drawn cases: always the same few, or many others in long form.

    `cases` and `many` are their numbers.
    """

    def drawn(*strategies: SearchStrategy[Any], cases: int, many: int) -> Callable[[Callable[..., None]], None]:
        form = settings(
            max_examples=many if long else cases,
            derandomize=not long,
            database=None,
            phases=[Phase.generate],  # cases are small already, and to make them smaller takes long
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        return lambda body: form(given(*strategies)(body))()

    return drawn


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
