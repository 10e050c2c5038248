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
    assert printed.count("explained_variance") == 2


def test_the_evaluation_and_the_coder_of_the_readme_serve_a_measurement(readme, python, tmp_path):
    use = """
from sparsecode_pl import SparseCodingModule, load_results, measure
from sparsecode_pl.data import TensorActivations

x = torch.randn(500, 8)
data = TensorActivations(x, batches_per_round=4)
module = SparseCodingModule(8, expansion=4, lam=0.1, coder=Nearest())
(record,) = measure(module, data, evaluations=[LargestShare()])
assert record["N0"] == record["largest_share"] == record["heldout_largest_share"] == 1
(record,) = load_results("lightning_logs/measure/version_0").records
assert record["largest_share"] == 1
assert type(record.dictionary.coder) is Nearest
"""
    (tmp_path / "mine.py").write_text(readme("Write an evaluation or a coder", "python") + use)
    python("mine.py")


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


def test_a_control_an_evaluation_and_a_coder_of_a_package_are_found_once_it_is_installed(readme, python, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    code = readme("Write an evaluation or a coder", "python") + readme("Write a control", "python")
    (package / "mine.py").write_text(code)
    (package / "pyproject.toml").write_text(
        """
[project]
name = "mine"
version = "0.1.0"

[project.entry-points."sparsecode_pl.controls"]
Rectified = "mine:Rectified"

[project.entry-points."sparsecode_pl.evaluations"]
LargestShare = "mine:LargestShare"

[project.entry-points."sparsecode_pl.coders"]
Nearest = "mine:Nearest"
"""
    )
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    python("-m", "pip", "install", *offline, f"--target={tmp_path / 'site'}", str(package))
    shutil.rmtree(package)
    quick = ["--data.batch_size=64", "--data.batches_per_round=4", "--trainer.max_epochs=2", "--model.expansion=2"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--output=out"]
    words = ["measure", "--data=Gaussian", "--data.d_model=8", "--data.num_samples=400", *quick, *quiet]
    words += ["--controls+=Rectified", "--evaluations+=LargestShare", "--model.coder=Nearest"]
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    python("-m", "sparsecode_pl.cli", *words, PYTHONPATH=path)
    record, control = json.loads((tmp_path / "out" / "version_0" / "results.json").read_text())["results"]
    assert control["data"] == "Rectified"
    assert record["largest_share"] == control["heldout_largest_share"] == 1
    use = "from sparsecode_pl import load_results\n"
    use += "print(type(load_results('out/version_0').records[0].dictionary.coder).__name__)"
    assert python("-c", use, PYTHONPATH=path).strip() == "Nearest"
