"""A fit in two processes against the same fit in one."""

import json
import socket
import sys

import pytest
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
