"""`sparsecode cache`, also where it is killed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sparsecode_pl.cli import main
from sparsecode_pl.data import ActivationStore, Store, generator

WORDS = ["[PAD]", *("".join(letters) for letters in itertools.product("abcdefghij", repeat=2))]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """The folder of a small Llama, with a tokenizer of words."""
    folder = tmp_path_factory.mktemp("model") / "llama"
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[PAD]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]").save_pretrained(folder)  # noqa: S106
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=256, **sizes)
        transformers.LlamaModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    """3,000 documents of 2 to 40 words."""
    random = generator(0)
    lengths = torch.randint(2, 41, (3000,), generator=random).tolist()
    documents = [
        " ".join(WORDS[i] for i in torch.randint(1, len(WORDS), (length,), generator=random)) for length in lengths
    ]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(documents))
    return str(path)


@pytest.fixture
def words(model, text):
    """The command line that fills a store."""

    def words(store: Path, **settings) -> list[str]:
        given = {"model_name_or_path": model, "text": text, "device": "cpu", "batch_tokens": 256, "shard_rows": 1500}
        given |= {"num_activations": 40000, "store": store} | settings
        return ["cache", "--data=TransformerActivations", *(f"--data.{name}={value}" for name, value in given.items())]

    return words


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished_shards(store: Path) -> int:
    try:
        return len(json.loads((store / "manifest.json").read_text())["shards"])
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, bytes]]:
    """The stores of uninterrupted runs, by their settings."""
    return {}


@pytest.mark.parametrize(("shards", "ratio"), [(1, None), (4, 3), (9, None)])
def test_a_killed_run_is_gone_on_with_to_the_same_bytes(words, tmp_path, whole, shards, ratio):
    settings = {} if ratio is None else {"max_norm_ratio": ratio}
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # so that sums come out the same
    command = [sys.executable, "-m", "sparsecode_pl.cli", *words(tmp_path / "store", **settings)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
        while finished_shards(tmp_path / "store") < shards and process.poll() is None:
            time.sleep(0.005)
        time.sleep(float(torch.rand(()) * 0.1))
        process.send_signal(signal.SIGKILL)
        killed = process.wait()
    assert killed == -signal.SIGKILL, (tmp_path / "log").read_text()
    before = Store(tmp_path / "store", partial=True)
    assert not before.complete
    assert 0 < before.num_rows < 40000
    times = {path: path.stat().st_mtime_ns for path in before.path.rglob("layers/*/00000.safetensors")}
    main(words(tmp_path / "store", **settings))
    if ratio not in whole:
        main(words(tmp_path / "whole", **settings))
        whole[ratio] = files(tmp_path / "whole")
    assert files(tmp_path / "store") == whole[ratio]
    assert Store(tmp_path / "store", verify=True).num_rows == 40000
    assert times
    assert all(path.stat().st_mtime_ns == written for path, written in times.items())  # not done again


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
