import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import _best_device, load_model, longest_input
from transformers.utils import logging


def change(folder, **changes) -> None:
    """Change tensors of a saved model; None deletes one."""
    tensors = {**load_file(folder / "model.safetensors"), **{name.replace("__", "."): t for name, t in changes.items()}}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def test_a_trained_model_is_loaded_ready_to_capture_from(saved_llama, tiny_models):
    model = load_model(str(saved_llama))
    assert isinstance(model, transformers.LlamaModel)
    assert not model.training
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    original = weights(tiny_models["llama"])
    assert weights(model).keys() == original.keys()
    for name, weight in weights(model).items():
        assert not weight.requires_grad
        assert weight.dtype == torch.float32
        assert torch.equal(weight.cpu(), original[name])


@pytest.mark.parametrize("random_weights", [None, 0])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_leaves_the_rotary_frequencies_alone(saved_llama, dtype, random_weights):
    whole = load_model(str(saved_llama), device="cpu", random_weights=random_weights)
    half = load_model(str(saved_llama), device="cpu", dtype=dtype, random_weights=random_weights)
    for name, weight in weights(half).items():
        assert torch.equal(weight, weights(whole)[name].to(getattr(torch, dtype)))
    assert torch.equal(half.rotary_emb.inv_freq, whole.rotary_emb.inv_freq)


@pytest.mark.parametrize("random_weights", [None, 0])
def test_the_head_is_left_out_and_of_two_halves_the_encoder_taken(tmp_path, random_weights):
    config = transformers.T5Config(vocab_size=8, d_model=4, d_kv=2, d_ff=8, num_layers=2, num_heads=2)
    whole = transformers.T5ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), device="cpu", random_weights=random_weights)
    assert isinstance(model, type(whole.encoder))
    assert not model.is_decoder
    if random_weights is None:
        assert torch.equal(
            model.block[1].layer[0].SelfAttention.q.weight, whole.encoder.block[1].layer[0].SelfAttention.q.weight
        )


def test_an_encoder_needs_no_decoder(tmp_path):
    config = transformers.T5Config(vocab_size=8, d_model=4, d_kv=2, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    change(tmp_path, decoder__final_layer_norm__weight=None)
    load_model(str(tmp_path), device="cpu")
    change(tmp_path, encoder__final_layer_norm__weight=None)
    with pytest.raises(ValueError, match=r"files do not hold encoder\.final_layer_norm\.weight: give"):
        load_model(str(tmp_path), device="cpu")


def test_random_weights_depend_on_the_seed_alone(saved_llama):
    state = torch.get_rng_state()
    one = load_model(str(saved_llama), device="cpu", random_weights=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    same, other = (load_model(str(saved_llama), device="cpu", random_weights=seed) for seed in (3, 4))
    for name, weight in weights(one).items():
        assert torch.equal(weight, weights(same)[name])
        assert torch.equal(weight, weights(other)[name]) == (weight.dim() == 1)  # only norms are not drawn


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_random_weights_are_those_before_training(request, name):
    folder = locate_model(request.getfixturevalue(name))
    trained, untrained = load_model(folder, device="cpu"), load_model(folder, device="cpu", random_weights=0)
    assert untrained.config.to_dict() == trained.config.to_dict()
    for name, weight in weights(untrained).items():
        assert weight.shape == weights(trained)[name].shape
        if weight.dim() == 2:
            bound = 5 / weight.numel() ** 0.5  # standard errors of a mean and a standard deviation
            assert abs(float(weight.mean())) < bound * trained.config.initializer_range
            # The row of the padding token is zero.
            assert float(weight[1:].std()) == pytest.approx(trained.config.initializer_range, rel=bound)
            assert not torch.allclose(weight, weights(trained)[name])
        else:
            assert torch.equal(weight, torch.full_like(weight, float("norm" in name.lower() and "bias" not in name)))
    for name, buffer in trained.named_buffers():
        assert torch.equal(buffer, untrained.get_buffer(name))
    assert len(dict(trained.named_buffers())) > 0


def test_random_weights_need_no_files_of_weights(saved_llama):
    (saved_llama / "model.safetensors").unlink()
    load_model(str(saved_llama), random_weights=0)
    with pytest.raises(OSError, match="its weights cannot be read: give"):
        load_model(str(saved_llama))


def test_absent_weights_are_refused(saved_llama):
    change(saved_llama, layers__1__mlp__up_proj__weight=None)
    with pytest.raises(ValueError, match=r"files do not hold layers\.1\.mlp\.up_proj\.weight: give .*, or random_weig"):
        load_model(str(saved_llama))
    change(saved_llama, **{f"layers__{index}__mlp__down_proj__weight": None for index in range(3)}, norm__weight=None)
    with pytest.raises(ValueError, match=r"do not hold layers\.0\.mlp\.down_proj\.weight, layers\.1\..* and 2 more: "):
        load_model(str(saved_llama))


def test_weights_of_another_shape_are_refused(saved_llama):
    change(saved_llama, norm__weight=torch.ones(5))
    with pytest.raises(ValueError, match=r"do not hold norm\.weight of shape \(8,\) \(but of \(5,\)\): give"):
        load_model(str(saved_llama))


def test_a_pooler_may_be_absent(tmp_path, tiny_models):
    tiny_models["bert"].save_pretrained(tmp_path)
    change(tmp_path, pooler__dense__weight=None, pooler__dense__bias=None)
    load_model(str(tmp_path))
    change(tmp_path, encoder__layer__0__output__dense__bias=None)
    with pytest.raises(ValueError, match=r"do not hold encoder\.layer\.0\.output\.dense\.bias: give"):
        load_model(str(tmp_path))


@pytest.fixture
def talkative():
    """Lets transformers warn, as it does unless another library has told it to be silent."""
    before = logging.get_verbosity()
    logging.set_verbosity_warning()
    yield
    logging.set_verbosity(before)


def test_transformers_says_nothing_and_speaks_again(tmp_path, tiny_models, capfd, caplog, talkative):
    tiny_models["bert"].save_pretrained(tmp_path)
    change(tmp_path, pooler__dense__weight=None, unknown=torch.zeros(1))
    capfd.readouterr()
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    transformers.AutoModel.from_pretrained(tmp_path)
    assert "pooler" in caplog.text
    assert "Loading weights" in capfd.readouterr().err


def test_spoilt_weights(saved_llama):
    file = saved_llama / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"its weights cannot be read: give .*\. ."):
        load_model(str(saved_llama))


def test_arguments_that_do_not_exist(saved_llama):
    with pytest.raises(ValueError, match="dtype is 'int8': give one of float32, bfloat16, float16"):
        load_model(str(saved_llama), dtype="int8")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match=f"device is '{device}', which PyTorch cannot use here: give"):
            load_model(str(saved_llama), device=device)


def test_a_hub_name_that_cannot_be_reached():
    with pytest.raises(OSError, match=r"model_name_or_path is 'nobody/nothing'.*hub has no such model.*HF_HUB_OFFLINE"):
        load_model("nobody/nothing")


CODE = """
import torch, transformers
class Config(transformers.PretrainedConfig):
    model_type = "mine"
class Model(transformers.PreTrainedModel):
    config_class = Config
    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.post_init()
"""


@pytest.mark.parametrize("random_weights", [None, 0])
def test_code_of_the_repository_runs_only_when_told(tmp_path, monkeypatch, random_weights):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "code.py").write_text(CODE)
    auto_map = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto_map}))
    save_file({"weight": torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"which is not done: give .*, or set trust_remote_code to true if you trust"):
        load_model(str(folder), random_weights=random_weights)
    assert not (tmp_path / "cache").exists()
    model = load_model(str(folder), trust_remote_code=True, random_weights=random_weights)
    assert type(model).__name__ == "Model"


@pytest.mark.parametrize(
    ("process", "gpus", "device"),
    [({}, 0, "cpu"), ({}, 2, "cuda:0"), ({"LOCAL_RANK": "1"}, 2, "cuda:1"), ({"SLURM_LOCALID": "3"}, 2, "cuda:1")],
)
def test_each_of_several_processes_takes_a_gpu_of_its_own(monkeypatch, process, gpus, device):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in process.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert _best_device() == device


def test_the_longest_input_is_that_of_the_position_embeddings():
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    bert = transformers.BertModel(transformers.BertConfig(max_position_embeddings=66, **sizes))
    roberta = transformers.RobertaModel(transformers.RobertaConfig(max_position_embeddings=66, **sizes))
    assert (longest_input(bert), longest_input(roberta)) == (66, 64)
    roberta(torch.full((1, 64), 5))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.full((1, 65), 5))
