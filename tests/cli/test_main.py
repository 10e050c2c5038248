import json
import subprocess
import sys

import pytest

from sparsecode_pl.cli import main


def test_the_command_line_of_the_process_is_used_unless_another_is_given(here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sparsecode", "plugins"])
    main()
    assert "SparseLinear" in capsys.readouterr().out


def test_as_a_module_it_is_the_same_command():
    words = [sys.executable, "-m", "sparsecode_pl.cli", "export", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: sparsecode export")


def test_where_data_fail_the_others_are_written_and_the_command_fails(here, measure_words, monkeypatch):
    (here / "failing_data.py").write_text(
        """
from sparsecode_synthetic import SparseLinear

class Failing(SparseLinear):
    def rank_batch(self, epoch, index):
        raise RuntimeError("the disk is gone")
"""
    )
    monkeypatch.syspath_prepend(here)
    also = ["--also+=failing_data.Failing", "--also.d_model=16", "--also.num_samples=300", "--also.batches_per_round=3"]
    with pytest.warns(UserWarning, match="failed: RuntimeError: the disk is gone"), pytest.raises(SystemExit) as exited:
        main([*measure_words, *also, "--model.lam=0.1", "--output=out", "--jobs=1"])
    assert str(exited.value.code).startswith("error: 1 of 2 data sets failed, the first with RuntimeError")
    good, bad = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert good["S1"] >= 1
    assert bad["error"] == "RuntimeError: the disk is gone"
