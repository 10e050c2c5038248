"""What a name is taken for, and what is said where there is nothing."""

import builtins
import json

import pytest

from sparsecode_pl.interchange import load_autoencoder


def test_a_folder_that_is_not_there_is_refused_with_the_ways_to_name_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no such folder: give a folder with cfg.json .*RELEASE:"):
        load_autoencoder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="sae is 'nowhere', and there is no such folder"):
        load_autoencoder("nowhere")


def test_a_folder_without_an_autoencoder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="which holds nothing, and no autoencoder"):
        load_autoencoder(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"which holds cfg.json, and no autoencoder"):
        load_autoencoder(tmp_path)


def test_a_repository_that_cannot_be_had_is_named():
    with pytest.raises(OSError, match=r"sae is 'me/nothing:layers.3', and there is neither such a folder nor"):
        load_autoencoder("me/nothing:layers.3")


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard"}))
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "sae_lens":
            raise ImportError("No module named 'sae_lens'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in (tmp_path, "gpt2-small-res-jb:blocks.7.hook_resid_pre"):
        with pytest.raises(ImportError, match=r'install the extra, pip install "sparsecode-pl\[sae\]"'):
            load_autoencoder(name)


def test_what_a_checkpoint_is_scaled_by_is_fetched_too(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(repository, allow_patterns, **_):
        asked["repository"], asked["files"] = repository, allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    (tmp_path / "step").mkdir()
    with pytest.raises(FileNotFoundError, match="which holds nothing, and no autoencoder"):
        load_autoencoder("me/toy:step")
    assert asked["repository"] == "me/toy"
    assert {"step/activation_scaler.json", "step/activation_whitening.safetensors"} < set(asked["files"])
