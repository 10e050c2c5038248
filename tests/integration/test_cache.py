"""`sparsecode cache`; tests/reliability/kills kills it."""

import sys
from pathlib import Path

import pytest

from sparsecode_pl.cli import main
from sparsecode_pl.data import ActivationStore, Store


@pytest.fixture
def words(word_model, word_text):
    """The command line that fills a store."""
    given = {"model_name_or_path": word_model, "text": word_text, "device": "cpu", "batch_tokens": 256}

    def words(store: Path, **settings) -> list[str]:
        every = given | {"shard_rows": 1500, "num_activations": 40000, "store": store} | settings
        return ["cache", "--data=TransformerActivations", *(f"--data.{name}={value}" for name, value in every.items())]

    return words


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_is_filled_once_and_read(words, tmp_path, monkeypatch, caplog):
    main(words(tmp_path / "store", num_activations=2000))
    assert f"--data ActivationStore --data.path {tmp_path / 'store'}" in caplog.text
    data = ActivationStore(str(tmp_path / "store"))
    assert [part.label for part in data.sources()] == [f"llama layer {layer}" for layer in range(4)]
    assert {part.rows.shape for part in data.sources()} == {(2000, 16)}

    def refuse(*args, **kwargs):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("sparsecode_transformer.text_capture.load_model", refuse)
    content = files(tmp_path / "store")
    main(words(tmp_path / "store", num_activations=2000))
    assert files(tmp_path / "store") == content


def test_a_configuration_file_says_what_to_keep(words, tmp_path):
    arguments = dict(word.removeprefix("--data.").split("=", 1) for word in words(tmp_path / "store")[2:])
    arguments |= {"num_activations": 500, "layers": "[1]"}
    lines = [f"    {name}: {value}" for name, value in arguments.items()]
    (tmp_path / "cache.yaml").write_text(
        "\n".join(["data:", "  class_path: TransformerActivations", "  init_args:", *lines])
    )
    main(["cache", "--config", "cache.yaml"])
    assert list(Store(tmp_path / "store").layers) == ["1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words: [word for word in words if "--data.store" not in word], "store is missing: give the folder"),
        (lambda words: ["cache", "--data=Gaussian"], "Gaussian keeps no store: give data that does, such as Trans"),
        (lambda words: ["cache"], "data is missing: give --data NAME, one of ActivationStore"),
        (lambda words: [*words, "--data.layers=7"], "layers is 7, and the hidden states of this LlamaModel are 0 to 3"),
        (lambda words: [*words, "--data.num_activations=1000000"], "num_activations is 1,000,000, but the text gives"),
        (lambda words: [*words, "--data.text=nowhere.txt"], "text is 'nowhere.txt', and there is no such file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, tmp_path, capsys, change, message):
    with pytest.raises(SystemExit) as stop:
        main(change(words(tmp_path / "store")))
    assert stop.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_other_settings_are_refused_and_the_store_stays(words, tmp_path, capsys):
    main(words(tmp_path / "store", num_activations=500))
    content = files(tmp_path / "store")
    with pytest.raises(SystemExit):
        main(words(tmp_path / "store", num_activations=600))
    assert "num_activations is 600, but the store at" in " ".join(capsys.readouterr().err.split())
    assert files(tmp_path / "store") == content
