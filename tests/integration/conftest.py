import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

README = Path(__file__, "../../../README.md").resolve()


@pytest.fixture(scope="session")
def readme() -> Callable[..., str]:
    """Gives the code that stands in a section of the README, in fenced blocks of one language."""
    text = README.read_text()

    def code(section: str, language: str) -> str:
        body = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert body, f"the README has no section {section!r}"
        blocks = re.findall(rf"^```{language}\n(.*?)^```", body[1], re.MULTILINE | re.DOTALL)
        assert blocks, f"section {section!r} of the README has no {language} block"
        return "\n".join(blocks)

    return code


def _python(folder: Path, *words: str, timeout: float = 240, **environment: str) -> str:
    # The variables that Lightning leaves in this process would make a worker of the new one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "LOCAL_RANK"))}
    done = subprocess.run(  # noqa: S603
        [sys.executable, *words],
        cwd=folder,
        env=inherited | {"OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def python_in() -> Callable[..., str]:
    """Runs Python in a process of its own, in a folder, and returns what it prints."""
    return _python


@pytest.fixture
def python(tmp_path) -> Callable[..., str]:
    """Runs Python in a process of its own, in an empty folder, and returns what it prints."""
    return partial(_python, tmp_path)
