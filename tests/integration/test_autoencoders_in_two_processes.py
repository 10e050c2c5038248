"""A measurement with an autoencoder in two processes against the same in one."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from sparsecode_pl.cli import main
from sparsecode_pl.data import generator
from sparsecode_pl.measurement import load_results

WORDS = [
    *("measure", "--data=SparseLinear", "--data.d_model=16", "--data.num_features=32", "--data.num_samples=601"),
    *("--data.active=1.5", "--data.batch_size=64", "--data.batches_per_round=8", "--trainer.max_epochs=2"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--model.expansion=2", "--sae=mine"),
]
# Lightning starts the second process, which runs the same script once the first one has made its run folder. Pictures,
# which are drawn anew after each fit, are left out.
SCRIPT = """
import sparsecode_pl.measurement.report as report
from sparsecode_pl.cli import main
report.draw = lambda *_: None
main({words!r})
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with an autoencoder of sparsify's format, whose codes have as many entries as they are told to."""
    features = torch.nn.functional.normalize(torch.randn(32, 16, generator=generator(0)), dim=1)
    tensors = {"encoder.weight": features, "encoder.bias": torch.full((32,), -0.05)}
    tensors |= {"W_dec": features.clone(), "b_dec": torch.zeros(16)}
    (tmp_path / "mine").mkdir()
    save_file(tensors, tmp_path / "mine" / "sae.safetensors")
    (tmp_path / "mine" / "cfg.json").write_text(json.dumps({"d_in": 16, "k": 3, "num_latents": 32}))
    return tmp_path


@pytest.fixture(autouse=True)
def quick(empty_figures, monkeypatch):
    """Spares every fit its figures."""
    monkeypatch.setattr(sys.modules["sparsecode_pl.measurement.report"], "draw", lambda *_: None)


def test_an_autoencoder_in_two_processes_has_the_scores_of_one(folder, python_in, monkeypatch):
    two = [*WORDS, "--trainer.devices=2", "--trainer.strategy=ddp", "--output=two"]
    (folder / "script.py").write_text(SCRIPT.format(words=two))
    python_in(folder, "script.py")
    monkeypatch.chdir(folder)
    main([*WORDS, "--output=one"])
    assert [path.name for path in (folder / "two").iterdir()] == ["version_0"]
    found, expected = (load_results(folder / name / "version_0").records for name in ("two", "one"))
    assert [record["data"] for record in found] == [record["data"] for record in expected]
    assert len(found) == 9
    for record, other in zip(found, expected, strict=True):
        for name in ("N0", "explained_variance", "heldout_S1", "heldout_L_norm", "lam"):
            assert record[name] == pytest.approx(other[name], rel=1e-4), (record["data"], name)
