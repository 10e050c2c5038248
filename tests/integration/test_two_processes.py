"""A fit in two processes against the same fit in one."""

import json
import socket
import sys

import pytest
import torch
from sparsecode_synthetic import SparseLinear
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.cli import main
from sparsecode_pl.dictionary import Dictionary

# An odd number of training rows, so that the processes have unequal shares of them.
ROWS = ["--data=SparseLinear", "--data.d_model=16", "--data.num_features=32", "--data.num_samples=1001"]
ROUNDS = ["--data.batch_size=128", "--data.batches_per_round=16", "--trainer.max_epochs=3", "--model.expansion=4"]
FIT = ["fit", *ROWS, "--data.active=1.5", *ROUNDS, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SCORES = ["S1", "L_norm", "L", "N0", "explained_variance"]


def curves(folder):
    """What the one event file of a run says."""
    (events,) = folder.glob("events.out.tfevents*")
    accumulated = EventAccumulator(str(events)).Reload()
    return {tag: accumulated.Scalars(tag) for tag in accumulated.Tags()["scalars"]}


@pytest.fixture
def port() -> str:
    """A free one, for processes to meet at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_fit_in_two_processes_logs_once_what_a_fit_in_one_logs(python, port, tmp_path, monkeypatch):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.default_root_dir=two"]
    python("-m", "sparsecode_pl.cli", *FIT, *two, MASTER_PORT=port)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    main([*FIT, "--trainer.devices=1", "--trainer.default_root_dir=one"])

    found, expected = (curves(tmp_path / name / "lightning_logs" / "version_0") for name in ("two", "one"))
    assert [path.name for path in (tmp_path / "two" / "lightning_logs").iterdir()] == ["version_0"]
    assert not (tmp_path / "lightning_logs").exists()
    assert len(list((tmp_path / "two").rglob("*.ckpt"))) == 1
    for tag in ["lam", *(f"{rows}/{score}" for rows in ("train", "heldout") for score in SCORES)]:
        assert len(found[tag]) == len(expected[tag]), tag
        assert found[tag][-1].value == pytest.approx(expected[tag][-1].value, rel=0.01), tag
    atoms = [
        Dictionary.from_pretrained(tmp_path / name / "lightning_logs/version_0/dictionary").atoms
        for name in ("two", "one")
    ]
    assert (atoms[0] * atoms[1]).sum(1).mean() > 0.999


def test_a_measurement_at_a_share_in_two_processes_is_that_in_one(python, port, tmp_path, monkeypatch):
    share = ["--controls+=RandomDictionary", "--explained_variance=0.9", "--exact"]
    words = ["measure", *FIT[1:], *share]
    python(
        "-m",
        "sparsecode_pl.cli",
        *words,
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--output=two",
        MASTER_PORT=port,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    main([*words, "--trainer.devices=1", "--output=one"])
    found, expected = (
        json.loads((tmp_path / name / "version_0" / "results.json").read_text())["results"] for name in ("two", "one")
    )
    assert [record["data"] for record in found] == ["SparseLinear a=1.5", "RandomDictionary"]
    for record, other in zip(found, expected, strict=True):
        assert record["explained_variance"] >= 0.9
        for score in [*SCORES, "lam", "heldout_S1", "exact_S1", "heldout_exact_L_norm"]:
            assert record[score] == pytest.approx(other[score], rel=0.01), score
        for gap in ("coding_gap", "heldout_coding_gap"):
            assert record[gap] == pytest.approx(other[gap], abs=0.002), gap


SCORED_IN_TWO = """
import sys
import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group
from sparsecode_pl import load_results, score
from sparsecode_pl.measurement import ExactCodes
from sparsecode_pl.scoring import Scores

init_process_group("gloo")
for record in load_results(sys.argv[1]).records:
    x = torch.load(sys.argv[2])
    for prefix, rows in x.items():
        found = score(record.dictionary, rows[get_rank()::2], [Scores(), ExactCodes()])
        if get_rank() == 0:
            for name, value in found.items():
                print(record.data, prefix + name, float(value), record[prefix + name])
destroy_process_group()
"""


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:lam has not settled")
def test_on_two_processes_the_dictionary_gives_the_scores_of_its_record(python, port, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    main(["measure", *FIT[1:], "--explained_variance=0.9", "--exact", "--trainer.devices=1", "--output=one"])
    data = SparseLinear(d_model=16, num_features=32, num_samples=1001, active=1.5)
    torch.save({"": data.rows[data.train_index], "heldout_": data.rows[data.heldout_index]}, tmp_path / "rows.pt")
    (tmp_path / "scored.py").write_text(SCORED_IN_TWO)
    words = ["--nproc-per-node=2", f"--master-port={port}", "scored.py", "one/version_0", "rows.pt"]
    printed = python("-m", "torch.distributed.run", *words)
    lines = [line.rsplit(" ", 3) for line in printed.splitlines()]
    assert len(lines) == 2 * (5 + 7)
    for _, name, found, expected in lines:
        exact = "exact" in name or "gap" in name  # which may end a sweep sooner or later
        assert float(found) == pytest.approx(float(expected), rel=1e-4 if exact else 1e-6, abs=1e-5), name
