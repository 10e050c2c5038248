"""What the README shows, done as it says."""

import json
import os
import re
import shutil

import numpy as np
import pytest


def test_the_python_of_the_readme_runs(readme, python, tmp_path):
    printed = python("-c", readme("From Python", "python"))
    assert "MatchedGaussian" in printed  # the table
    scores = [float(score) for score in re.search(r"^([\d.]+) ([\d.]+) ([\d.]+)$", printed, re.MULTILINE).groups()]
    assert min(scores) >= 1
    (results,) = tmp_path.rglob("results.json")
    records = json.loads(results.read_text())["results"]
    assert [record["S1"] for record in records] == [scores[0], scores[2]]
    assert (tmp_path / "my_dictionary" / "dictionary.safetensors").is_file()


def test_the_store_of_the_readme_is_written_and_measured_layer_by_layer(readme, python, tmp_path):
    printed = python("-c", readme("Activations from anywhere", "python"))
    assert (tmp_path / "my_store" / "manifest.json").is_file()
    (results,) = tmp_path.rglob("results.json")
    records = json.loads(results.read_text())["results"]
    assert [(record["model"], record["layer"]) for record in records] == [
        ("my network", "early"),
        ("my network", "late"),
    ]
    assert [(record["num_samples"], record["num_atoms"]) for record in records] == [(3600, 64), (3600, 128)]
    assert "How sparse are the layers of my network?" in printed


@pytest.fixture
def site(readme, python, tmp_path):
    """A folder into which the plugin of the README has been installed, as a package of its own."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "npy_activations.py").write_text(readme("Write a plugin", "python"))
    (package / "pyproject.toml").write_text(readme("Write a plugin", "toml"))
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    python("-m", "pip", "install", *offline, f"--target={tmp_path / 'site'}", str(package))
    shutil.rmtree(package)
    return tmp_path / "site"


def test_the_plugin_of_the_readme_is_found_once_installed_and_measured_by_its_name(site, python, tmp_path):
    rows = np.random.default_rng(0).laplace(size=(400, 8))
    np.save(tmp_path / "activations.npy", rows)
    quick = ["--data.batch_size=64", "--data.batches_per_round=4", "--trainer.max_epochs=2", "--model.expansion=2"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--output=out"]
    words = ["measure", "--data", "NpyActivations", "--data.path", "activations.npy", *quick, *quiet]
    script = f"from sparsecode_pl.cli import main\nmain(['plugins'])\nmain({words!r})"
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    printed = python("-c", script, PYTHONPATH=path)
    lines = printed.splitlines()
    number = next(number for number, line in enumerate(lines) if "npy_activations" in line)
    assert "NpyActivations" in lines[number]
    assert "data" in lines[number]
    assert "Activations from a .npy file." in lines[number + 1]
    (record,) = json.loads((tmp_path / "out" / "version_0" / "results.json").read_text())["results"]
    assert record["data"] == "NpyActivations"
    assert (record["num_samples"], record["heldout_num_samples"], record["num_atoms"]) == (360, 40, 16)
    assert 1 < record["S1"] < 8


def test_the_plugin_of_the_readme_has_fifteen_lines(readme):
    lines = readme("Write a plugin", "python").splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


def test_the_controls_of_the_readme_are_measured(readme, python, tmp_path):
    script = """
import torch
from sparsecode_pl import SparseCodingModule, measure
from sparsecode_pl.data import TensorActivations
data = TensorActivations(torch.randn(300, 8), batch_size=64, batches_per_round=3)
measure(SparseCodingModule(8, expansion=2, lam=0.3), data, controls=[Rectified(), Frozen()])
"""
    python("-c", readme("Write a control", "python") + script)
    (results,) = tmp_path.rglob("results.json")
    records = json.loads(results.read_text())["results"]
    assert [record["data"] for record in records] == ["activations", "Rectified", "Frozen"]
    assert records[1]["S1"] != records[0]["S1"] != records[2]["S1"]
