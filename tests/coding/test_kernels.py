"""Machine code on disk. These tests run a copy of the package in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparsecode_pl

# `sparsecode_pl` itself imports Lightning; a bare package of that name does for what lies below.
RUN = """
import sys, types
package = types.ModuleType("sparsecode_pl")
package.__path__ = [sys.argv[1]]
sys.modules["sparsecode_pl"] = package
import torch
from sparsecode_pl.coding import greedy_encode, kernels, lasso_encode
assert kernels.__file__.startswith(sys.argv[1])
x, atoms = torch.tensor([[3.0, 1.0]]), torch.eye(2)
coders = {"greedy": greedy_encode, "lasso": lambda *given: lasso_encode(*given).codes}
print(*(coders[name](x, atoms, 1.0).to_dense().tolist() for name in sys.argv[2:]))
print(sum(sum(f.stats.cache_hits.values()) for f in (kernels.greedy_rows, kernels.lasso_rows)))
print([name for name in sys.modules if name == "lightning" or name.startswith(("lightning.", "pytorch_lightning"))])
"""


@pytest.fixture
def copy(tmp_path):
    return Path(
        shutil.copytree(
            Path(sparsecode_pl.__file__).parent,
            tmp_path / "sparsecode_pl",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    )


def run(package, *coders, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = [sys.executable, "-B", "-c", RUN, str(package), *coders]
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    codes, hits, lightning = done.stdout.splitlines()
    assert lightning == "[]"
    return codes, int(hits)


BOTH = "[[2.5, 0.5]] [[2.5, 0.5]]"


def test_machine_code_is_kept_and_never_older_than_any_function_in_it(copy):
    both = ("greedy", "lasso")
    assert run(copy, *both) == (BOTH, 0)
    assert run(copy, *both) == (BOTH, 2)
    kernels = copy / "coding" / "kernels.py"
    text = kernels.read_text()
    inlined = "cols[j], values[j] = atom, value"  # in a function that both solvers have inlined
    assert text.count(inlined) == 1
    kernels.write_text(text.replace(inlined, "cols[j], values[j] = atom, 2 * value"))
    assert run(copy, *both) == ("[[5.0, 1.0]] [[5.0, 1.0]]", 0)


def test_all_compiled_functions_stand_in_one_file_that_imports_nothing_from_the_package(copy):
    for path in (copy / "coding").glob("*.py"):
        text = path.read_text()
        if path.name == "kernels.py":
            assert "sparsecode_pl" not in text
        else:
            assert "njit" not in text
            assert "prange" not in text


def test_it_runs_where_nothing_can_be_written(copy, tmp_path):
    # Tests may run as root, whom permissions do not stop: files in the place of folders do.
    nowhere = tmp_path / "file"
    nowhere.touch()
    (copy / "coding" / "__pycache__").touch()
    places = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere / "cache")}
    # One coder shows it: the other takes six times as long to compile, and is kept on disk by the same decorator.
    assert run(copy, "greedy", **places) == ("[[2.5, 0.5]]", 0)
