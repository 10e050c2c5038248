"""A measurement that is killed and resumed, from the command line."""

import json
import os
import signal
import subprocess
import sys
import time

from sparsecode_pl.utilities.files import checksum

ROWS = ["--data=SparseLinear", "--data.d_model=16", "--data.num_features=32", "--data.num_samples=1000"]
ROUNDS = ["--data.batch_size=128", "--data.batches_per_round=8", "--trainer.max_epochs=2", "--model.expansion=4"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
CONTROLS = ["--controls+=MatchedGaussian", "--controls+=Shuffled", "--controls+=Gaussian"]
MEASURE = ["measure", *ROWS, "--data.active=1.5", *ROUNDS, *QUIET, *CONTROLS, "--explained_variance=0.9", "--jobs=1"]

# One process for both, for each imports torch.
WHOLE_AND_RESUMED = f"""
from sparsecode_pl.cli import main
main([*{MEASURE!r}, "--output=whole"])
main([*{MEASURE!r}, "--resume=killed/version_0"])
"""


def content(run):
    """The results of a run without the time that they took."""

    def plain(value):
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name != "seconds"}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(json.loads((run / "results.json").read_text()))


def test_killed_after_two_of_four_fits_and_resumed_it_is_the_uninterrupted_run(python, tmp_path):
    words = [sys.executable, "-m", "sparsecode_pl.cli", *MEASURE, "--output=killed"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "LOCAL_RANK"))}
    with subprocess.Popen(  # noqa: S603
        words, cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    ) as process:
        while len(list((tmp_path / "killed").glob("*/*/fit.json"))) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    whole, killed = (tmp_path / name / "version_0" for name in ("whole", "killed"))
    assert not json.loads((killed / "results.json").read_text())["complete"]
    finished = {path: path.stat().st_mtime_ns for path in killed.glob("*/fit.json")}

    python("-c", WHOLE_AND_RESUMED)
    assert content(killed) == content(whole)
    assert len(list(whole.glob("*/dictionary/dictionary.safetensors"))) == 4
    for path in whole.glob("*/dictionary/dictionary.safetensors"):
        assert checksum(killed / path.relative_to(whole)) == checksum(path)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not (tmp_path / "lightning_logs").exists()
