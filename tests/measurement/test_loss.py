"""`measure` with `loss`: scores, intervals, the file of all arms, and the table."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from safetensors.torch import load_file, save_file
from sparsecode_control import MatchedGaussian, RandomDictionary
from sparsecode_transformer import TransformerActivations
from tokenizers import Tokenizer, models, pre_tokenizers

from sparsecode_pl import Dictionary, SparseCodingModule, load_results, measure
from sparsecode_pl.analysis.loss import codec_loss
from sparsecode_pl.cli import main
from sparsecode_pl.data import ActivationStore, TensorActivations, generator
from sparsecode_pl.measurement import trainer
from sparsecode_pl.measurement.loss import LOSS
from sparsecode_pl.measurement.report import print_table

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*token types"),
    pytest.mark.filterwarnings("ignore:.*costs the model"),
]

WORDS = 40


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Leaves out the pictures, which are drawn anew after each fit."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw", "draw_frontier"):
            patch.setattr(sys.modules["sparsecode_pl.measurement.report"], name, lambda *_: None)
        yield


def save(folder, config: transformers.PretrainedConfig, kind=transformers.AutoModelForCausalLM) -> str:
    """Save a model of two layers with random weights, and a tokenizer of words."""
    words = {"[PAD]": 0, "[BOS]": 1} | {f"w{number}": number for number in range(2, WORDS)}
    backend = Tokenizer(models.WordLevel(words, unk_token="[PAD]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")  # noqa: S106
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> str:
    config = transformers.LlamaConfig(**SIZES, bos_token_id=1, eos_token_id=1, pad_token_id=0)
    return save(tmp_path_factory.mktemp("llama"), config)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("bert"), transformers.BertConfig(**SIZES), transformers.AutoModel)


@pytest.fixture(scope="module")
def text(tmp_path_factory, language_model) -> str:
    """A file of 60 documents of 4 to 29 words that the language model wrote."""
    model = transformers.AutoModelForCausalLM.from_pretrained(language_model)
    random = generator(0)
    tokens = torch.randint(2, WORDS, (60, 1), generator=random)
    with torch.no_grad():
        while tokens.shape[1] < 29:
            odds = (3 * model(tokens).logits[:, -1]).softmax(-1)
            odds[:, :2] = 0
            tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=random)], dim=1)
    lengths = torch.randint(4, 30, (60,), generator=random).tolist()
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(
        "\n".join(" ".join(f"w{i}" for i in row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True))
    )
    return str(path)


def layer(model: str, text: str, **kwargs) -> TransformerActivations:
    settings = {"layers": 1, "num_activations": None, "device": "cpu", "batch_size": 128, "batches_per_round": 4}
    return TransformerActivations(model, text, **settings | {"unseen_split": 0.0, "val_split": 0.3} | kwargs)


def quick(module, folder):
    return trainer.default_trainer(module, folder, max_epochs=2, accelerator="cpu", enable_progress_bar=False)


def run(data, folder, controls=(), **kwargs):
    return measure(SparseCodingModule(d_model=16, num_atoms=48), data, controls, folder=folder, trainer=quick, **kwargs)


@pytest.fixture(scope="module")
def records(language_model, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    controls = [RandomDictionary(), MatchedGaussian()]
    return run(layer(language_model, text), folder, controls, loss=True, exact=True)


NAMES = ["loss_recovered", "zero_loss_recovered", "kl", "cross_entropy"]


def test_what_stands_in_for_the_layer_is_scored_and_noise_is_not(records):
    own, *same, noise = records
    for record in (own, *same):
        assert {*NAMES, "clean_cross_entropy", *(f"exact_{name}" for name in NAMES)} <= set(record)
    assert not {*NAMES, "clean_cross_entropy"} & set(noise)
    assert len({record["clean_cross_entropy"] for record in (own, *same)}) == 1
    assert not (noise.folder / LOSS).exists()


def test_the_scores_are_those_of_the_file_and_have_its_intervals(records):
    content = json.loads((records[0].folder / LOSS).read_text())
    own, exact = content["arms"]["dictionary"], content["arms"]["exact codes"]
    names = {"loss_recovered": "recovered", "zero_loss_recovered": "zero_recovered"}
    for name in NAMES:
        for prefix, arm, of in (("", "dictionary", own), ("exact_", "exact codes", exact)):
            figure = names.get(name, name)
            value, (low, high) = records[0][prefix + name], records[0]["intervals"][prefix + name]
            assert value == pytest.approx(math.nan if of[figure] is None else of[figure], nan_ok=True)
            assert [low, high] == pytest.approx(
                [math.nan if end is None else end for end in content["intervals"][arm][figure]], nan_ok=True
            )
    assert content["heldout"]
    assert content["documents"] == pytest.approx(18, abs=6)
    assert list(content["arms"])[-2:] == ["mean", "zero"]
    low, high = records[0]["intervals"]["loss_recovered"]
    assert low < records[0]["loss_recovered"] < high < 1
    assert set(content["N0"]) == {*list(content["arms"])[1:-2]}
    assert content["N0"]["random dictionary"] == pytest.approx(content["N0"]["dictionary"], rel=0.05)
    controls = json.loads((records[1].folder / LOSS).read_text())["arms"]
    assert list(controls) == ["clean", "dictionary", "exact codes", "mean", "zero"]


def test_the_table_shows_all_arms_and_controls(records):
    console = Console(width=160, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_table(records, console)
    shown = console.export_text()
    for words in (
        "What the model loses",
        "this dictionary, exact codes",
        "RandomDictionary (control)",
        "principal components",
        "their mean",
        "held-out documents",
    ):
        assert words in shown
    assert "MatchedGaussian (control)" not in shown
    assert "kl:" not in shown


def test_it_is_read_back(records):
    run_folder = records[0].folder.parent
    (own, *_) = load_results(run_folder).records
    assert own["kl"] == pytest.approx(records[0]["kl"])
    assert own["intervals"]["kl"] == pytest.approx(records[0]["intervals"]["kl"])


def test_a_resumed_run_keeps_it_and_refuses_to_leave_it_out(records, language_model, text, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(records[0].folder.parent, run_folder)
    made = {record["data"]: record["seconds"] for record in records}
    controls = [RandomDictionary(), MatchedGaussian()]
    (again,) = {folder for folder in run_folder.iterdir() if "RandomDictionary" in folder.name}
    shutil.rmtree(again)
    data = layer(language_model, text)
    found = run(data, tmp_path, controls, loss=True, exact=True, resume=run_folder)
    assert [record["kl"] for record in found[:2]] == pytest.approx([record["kl"] for record in records[:2]])
    kept = [record["data"] for record in found if record["seconds"] == made[record["data"]]]
    assert kept == [record["data"] for record in records if record["data"] != "RandomDictionary"]
    with pytest.raises(ValueError, match=r"loss is False, but the run in .* was made with True"):
        run(layer(language_model, text), tmp_path, controls, exact=True, resume=run_folder)


def test_runs_of_before_had_no_loss_and_can_be_resumed(language_model, text, tmp_path):
    (record,) = run(layer(language_model, text), tmp_path)
    path = record.folder.parent / "results.json"
    content = json.loads(path.read_text())
    del content["settings"]["loss"]
    path.write_text(json.dumps(content))
    (again,) = run(layer(language_model, text), tmp_path, resume=record.folder.parent)
    assert again["seconds"] == record["seconds"]


def test_of_an_encoder_it_is_the_cosine(encoder, text, tmp_path):
    (record,) = run(layer(encoder, text), tmp_path, loss=True, seeds=2)
    assert 0 < record["output_cosine"] < 1
    assert not {*NAMES} & set(record)
    low, high = record["intervals"]["output_cosine"]
    assert low < record["output_cosine"] < high
    assert record["spread"]["output_cosine"] > 0
    assert json.loads((record.folder / LOSS).read_text())["kind"] == "encoder"


def test_at_a_share_of_the_variance_it_is_that_of_the_held_out_rows(language_model, text, tmp_path):
    (record,) = run(layer(language_model, text), tmp_path, loss=True, explained_variance=(0.8, 0.6))
    dictionary = record.dictionary
    data = layer(language_model, text)
    rows = data.rows[data.heldout_index]
    n0 = float((dictionary.encode(rows, record["heldout_lam"]).values() != 0).sum()) / len(rows)
    assert json.loads((record.folder / LOSS).read_text())["N0"]["dictionary"] == pytest.approx(n0, rel=0.05)


def test_autoencoders_stand_in_for_the_layer_too(language_model, text, tmp_path):
    data = layer(language_model, text)
    atoms = torch.nn.functional.normalize(torch.randn(48, 16, generator=generator(1)), dim=1)
    tensors = {
        "encoder.weight": atoms,
        "encoder.bias": torch.zeros(48),
        "W_dec": atoms.clone(),
        "b_dec": torch.zeros(16),
    }
    save_file(tensors, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": 16, "k": 4, "num_latents": 48}))
    own, first, *others = run(data, tmp_path / "runs", loss=True, saes=[str(tmp_path)])
    for record in (first, *others):
        assert record["clean_cross_entropy"] == own["clean_cross_entropy"]
        assert record["loss_recovered"] < own["loss_recovered"]  # its atoms are random
    assert json.loads((first.folder / LOSS).read_text())["N0"] == {"dictionary": pytest.approx(4, abs=0.1)}


def test_data_of_no_model_are_refused_before_anything_is_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
    data = TensorActivations(torch.randn(300, 16, generator=generator(0)), name="noise")
    with pytest.raises(
        ValueError, match="loss is true, but noise is of no model that can be run again: leave loss out"
    ):
        run(data, tmp_path, loss=True)
    assert not list(tmp_path.iterdir())


def test_a_head_without_weights_is_refused_before_anything_is_fitted(text, tmp_path, monkeypatch):
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
    config = transformers.LlamaConfig(**SIZES, bos_token_id=1, eos_token_id=1, pad_token_id=0)
    body = save(tmp_path / "body", config, transformers.AutoModel)
    with pytest.raises(ValueError, match=r"do not hold lm_head\.weight: give .*, or leave loss out"):
        run(layer(body, text), tmp_path / "runs", loss=True)
    assert not (tmp_path / "runs").exists()


def test_rows_without_their_token_means_are_refused(language_model, text, tmp_path):
    with pytest.raises(ValueError, match=r"loss is true, but .* without token means is of no model"):
        run(layer(language_model, text, remove="token_mean"), tmp_path, loss=True)


def test_the_command_line_takes_it_as_a_flag_also_of_a_store(language_model, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [f"--data.model_name_or_path={language_model}", f"--data.text={text}", "--data.num_activations=null"]
    words += ["--data.layers=[0,1]", "--data.device=cpu", "--data.store=store"]
    main(["cache", "--data=TransformerActivations", *words])
    words = ["--data=ActivationStore", "--data.path=store"]
    short = ["--data.batch_size=128", "--data.batches_per_round=2", "--trainer.max_epochs=1", "--data.val_split=0.3"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--model.expansion=2", "--jobs=1"]
    main(["measure", *words, *short, *quiet, "--loss", "--output=out"])
    results = load_results(tmp_path / "out" / "version_0")
    assert results.settings["loss"] is True
    assert [record.layer for record in results.records] == ["0", "1"]
    assert all(record["kl"] > 0 for record in results.records)
    assert len({record["clean_cross_entropy"] for record in results.records}) == 1
    assert "What the model loses" in capsys.readouterr().out
    main(["report", "out/version_0"])
    assert "What the model loses" in capsys.readouterr().out


def test_a_store_whose_model_has_changed_is_refused(language_model, text, tmp_path):
    folder = shutil.copytree(language_model, tmp_path / "model")
    layer(str(folder), text, store=str(tmp_path / "store")).prepare_data()
    stored = ActivationStore(str(tmp_path / "store"), val_split=0.3, unseen_split=0.0)
    dictionary = Dictionary.random(48, 16, generator(1), lam=0.5)
    assert codec_loss(dictionary, stored, controls=False).documents > 5
    weights = load_file(folder / "model.safetensors")
    for name, each in weights.items():
        if "mlp" in name:
            each.mul_(1.5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed = ActivationStore(str(tmp_path / "store"), val_split=0.3, unseen_split=0.0)
    with pytest.raises(ValueError, match=r"gives other activations now: half of \d+ rows .* The model has changed"):
        codec_loss(dictionary, changed, controls=False)
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"The model or the text of a store may be gone"):
        codec_loss(dictionary, ActivationStore(str(tmp_path / "store"), val_split=0.3), controls=False)


def test_intervals_of_the_mean_over_dictionaries_are_of_the_same_documents(records):
    sums = records[0].fits[0].sums
    assert (
        sums["loss_sums"].shape
        == sums["exact_loss_sums"].shape
        == (json.loads((records[0].folder / LOSS).read_text())["documents"], 9)
    )
    np.testing.assert_array_equal(sums["loss_sums"][:, :3], sums["exact_loss_sums"][:, :3])  # tokens, and clean
