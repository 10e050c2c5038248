from contextlib import contextmanager

import pytest
import torch
import transformers
from sparsecode_transformer.activation_capture import ActivationCapture
from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import load_model
from sparsecode_transformer.sites import Site, find_sites
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

KINDS = ["residual", "attention", "mlp", "mlp_hidden"]


@contextmanager
def counted(*modules):
    """How often each of the modules begins to run."""
    calls = [0] * len(modules)

    def count(index):
        def hook(*_):
            calls[index] += 1

        return hook

    handles = [module.register_forward_pre_hook(count(index)) for index, module in enumerate(modules)]
    yield calls
    for handle in handles:
        handle.remove()


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def capture_once(model, sites, batch):
    with ActivationCapture(model, sites) as capture:
        first = capture(*batch)
        again = capture(*batch)
    assert list(first) == list(again) == [site.name for site in sites]
    for name, states in first.items():
        torch.testing.assert_close(again[name], states)
    return again


def hidden_states(model, batch) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return model(input_ids=batch[0], attention_mask=batch[1], output_hidden_states=True).hidden_states


def test_hidden_states_are_those_that_the_model_returns(tiny, batch):
    expected = hidden_states(tiny, batch)
    captured = capture_once(tiny, find_sites(tiny), batch)
    assert len(captured) == len(expected) == 4
    for index, states in enumerate(expected):
        torch.testing.assert_close(captured[str(index)], states)


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_hidden_states_of_a_real_model(request, name):
    model = load_model(locate_model(request.getfixturevalue(name)), device="cpu")
    ids = torch.randint(3, 500, (4, 20), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(20) < torch.tensor([20, 11, 1, 7])[:, None]).long()
    expected = hidden_states(model, (ids, mask))
    captured = capture_once(model, find_sites(model), (ids, mask))
    assert len(captured) == len(expected) == {"stories": 6, "minilm": 7}[name]
    for index, states in enumerate(expected):
        torch.testing.assert_close(captured[str(index)][mask.bool()], states[mask.bool()])
    one = capture_once(model, find_sites(model, 3), (ids[1:2, :11], mask[1:2, :11]))["3"]  # padding changes nothing
    torch.testing.assert_close(captured["3"][1, :11], one[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "opt", "bloom", "falcon", "t5"])
def test_sublayers_make_up_the_residual_stream(tiny_models, batch, name):
    model = tiny_models[name]
    sites = [site for kind in KINDS for site in find_sites(model, "all", kind)]
    captured = capture_once(model, sites, batch)
    for index in range(2):  # the last hidden state is after the final norm
        stream = captured[str(index)] + captured[f"attention.{index}"] + captured[f"mlp.{index}"]
        torch.testing.assert_close(stream, captured[str(index + 1)], atol=1e-5, rtol=1e-5)


def test_sublayers_make_up_the_residual_stream_of_bert(tiny_models, batch):
    model = tiny_models["bert"]
    captured = capture_once(model, [site for kind in KINDS for site in find_sites(model, "all", kind)], batch)
    for index, block in enumerate(model.encoder.layer):
        middle = block.attention.output.LayerNorm(captured[str(index)] + captured[f"attention.{index}"])
        stream = block.output.LayerNorm(middle + captured[f"mlp.{index}"])
        torch.testing.assert_close(stream, captured[str(index + 1)], atol=1e-5, rtol=1e-5)


def test_the_last_linear_map_makes_the_output_of_the_mlp_from_its_hidden_activations(tiny, batch):
    sites = find_sites(tiny, "all", "mlp_hidden")
    captured = capture_once(tiny, sites + find_sites(tiny, "all", "mlp"), batch)
    for index, site in enumerate(sites):
        hidden = captured[f"mlp_hidden.{index}"]
        assert hidden.shape[-1] in (12, 32)
        output = tiny.get_submodule(site.module)(hidden)
        torch.testing.assert_close(output, captured[f"mlp.{index}"], atol=1e-5, rtol=1e-5)


def test_modules_by_name_are_captured_as_an_own_hook_captures_them(tiny_models, batch):
    model = tiny_models["gpt2"]
    outputs = {}
    names = ["h.1.ln_2", "h.1.attn"]
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name in names
    ]
    captured = capture_once(model, find_sites(model, names), batch)
    for handle in handles:
        handle.remove()
    assert torch.equal(captured["h.1.attn"], outputs["h.1.attn"][0])
    assert torch.equal(captured["h.1.ln_2"], outputs["h.1.ln_2"])


def test_what_a_block_changes_in_place_is_captured_before(tiny_models, batch):
    model = tiny_models["falcon"]  # adds the attention's output to that of the MLP in place
    raw = {}

    def keep(_, __, output):
        raw["alias"], raw["copy"] = output, output.clone()

    handle = model.h[0].mlp.register_forward_hook(keep)
    captured = capture_once(model, find_sites(model, "h.0.mlp"), batch)
    with torch.no_grad():
        model(*batch[:1], attention_mask=batch[1])
    handle.remove()
    assert not torch.equal(raw["alias"], raw["copy"])
    assert torch.equal(captured["h.0.mlp"], raw["copy"])


def test_the_pass_stops_after_the_deepest_site_once_the_first_has_run_whole(tiny_models, batch):
    model = tiny_models["llama"]
    with counted(*model.layers, model.norm) as calls, ActivationCapture(model, find_sites(model, [1, 0])) as capture:
        capture(*batch)
        assert calls == [1, 1, 1, 1]
        capture(*batch)
        capture(*batch)
        assert calls == [3, 3, 1, 1]  # block 1 has begun, its input is hidden state 1


def test_not_even_the_rest_of_a_block_runs(tiny_models, batch):
    model = tiny_models["neox"]
    block = model.layers[1]
    with (
        counted(block.attention, block.mlp) as calls,
        ActivationCapture(model, find_sites(model, 1, "attention")) as capture,
    ):
        capture.widths()
        calls[:] = [0, 0]
        capture(*batch)
        assert calls == [1, 0]


def test_all_layers_and_sites_take_one_pass(tiny, batch):
    sites = [site for kind in KINDS for site in find_sites(tiny, "all", kind)]
    with counted(tiny, tiny.get_input_embeddings()) as calls, ActivationCapture(tiny, sites) as capture:
        for number in (1, 2, 3):
            assert len(capture(*batch)) == 13
            assert calls == [number, number]


def test_widths(tiny):
    sites = [site for kind in KINDS for site in find_sites(tiny, 1, kind)]
    with ActivationCapture(tiny, sites) as capture:
        widths = capture.widths()
    assert widths.pop("mlp_hidden.1") in (12, 32)
    assert widths == {"1": 8, "attention.1": 8, "mlp.1": 8}


def test_no_cache_is_filled(tiny_models, batch):
    model = tiny_models["llama"]
    caches = []
    handle = model.layers[0].register_forward_pre_hook(
        lambda _, __, kwargs: caches.append(kwargs["past_key_values"]), with_kwargs=True
    )
    capture_once(model, find_sites(model), batch)
    handle.remove()
    assert caches == [None, None]


def test_hooks_are_removed_after_success_and_failure(tiny_models, batch):
    model = tiny_models["llama"]
    model(*batch[:1], output_hidden_states=True)  # transformers leaves hooks of its own
    before = hooks(model)
    with ActivationCapture(model, find_sites(model)) as capture:
        assert hooks(model) == before + 4
        capture(*batch)
    assert hooks(model) == before

    def fail(*_):
        raise ArithmeticError("in the middle")

    handle = model.layers[1].mlp.register_forward_hook(fail)
    capture = ActivationCapture(model, find_sites(model))
    with pytest.raises(ArithmeticError, match="in the middle"), capture:
        capture(*batch)
    handle.remove()
    assert hooks(model) == before
    assert capture._captured == {}
    with pytest.raises(RuntimeError, match="has no hooks: use it as `with"):
        capture(*batch)
    with capture:
        assert len(capture(*batch)) == 4


def test_tensors_can_be_trained_on(tiny_models, batch):
    states = capture_once(tiny_models["bert"], find_sites(tiny_models["bert"], 1), batch)["1"]
    weight = torch.ones(8, requires_grad=True)
    (states * weight).sum().backward()
    assert not states.requires_grad
    torch.testing.assert_close(weight.grad, states.sum((0, 1)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(saved_llama, batch, dtype):
    model = load_model(str(saved_llama), dtype=dtype, device="cpu")
    exact = load_model(str(saved_llama), device="cpu")
    captured, reference = capture_once(model, find_sites(model), batch), capture_once(exact, find_sites(exact), batch)
    for name, states in captured.items():
        assert states.dtype == getattr(torch, dtype)
        torch.testing.assert_close(states.float(), reference[name], atol=0.05, rtol=0.05)


class Odd(nn.Module):
    """A model whose blocks pass on everything that a model may pass on."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.shared, self.idle = nn.Embedding(9, 4), Block(), Block(), Block()
        self.blocks = nn.ModuleList([self.block, self.shared])

    def forward(self, input_ids, attention_mask):
        states = self.block(hidden_states=self.embed(input_ids)).last_hidden_state
        states = self.shared(hidden_states=states).last_hidden_state
        return self.shared(hidden_states=states)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean, self.pair = Mean(), Pair()

    def forward(self, hidden_states):
        self.mean(hidden_states)
        return BaseModelOutput(last_hidden_state=self.pair(hidden_states)[0])


class Mean(nn.Module):
    def forward(self, states):
        return states.mean(1)


class Pair(nn.Module):
    def forward(self, states):
        return states + 1, None


def test_states_by_keyword_in_tuples_and_in_outputs():
    model = Odd()
    ids = torch.arange(6).reshape(2, 3)
    sites = [Site("in", "block", "input"), Site("pair", "block.pair", "output"), Site("out", "block", "output")]
    captured = capture_once(model, [*sites, Site("end", "", "output")], (ids, torch.ones_like(ids)))
    states = model.embed(ids)
    for name, added in [("in", 0), ("pair", 1), ("out", 1), ("end", 3)]:
        torch.testing.assert_close(captured[name], states + added)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("idle", "layers here: nothing passes there in a forward pass"),
        ("shared", "layer here is passed more than once in a forward pass"),
        ("block.mean", r"layer here is passed by a tensor of shape \(2, 4\), not by one of .* = \(2, 3, \.\.\.\)"),
    ],
)
def test_a_site_that_cannot_be_captured(module, message):
    ids = torch.arange(6).reshape(2, 3)
    with (
        ActivationCapture(Odd(), [Site("here", module, "output")]) as capture,
        pytest.raises(ValueError, match=message),
    ):
        capture(ids, torch.ones_like(ids))


def test_what_is_no_tensor_cannot_be_captured(tiny_models, batch):
    model = tiny_models["llama"]
    with (
        ActivationCapture(model, [Site("here", "rotary_emb", "output")]) as capture,
        pytest.raises(ValueError, match="shape"),
    ):
        capture(*batch)
    model = transformers.AutoModel.from_config(model.config)
    model.layers[0].mlp.act_fn.register_forward_hook(lambda *_: {"a": None})
    capture = ActivationCapture(model, find_sites(model, "layers.0.mlp.act_fn"))
    with capture, pytest.raises(ValueError, match=r"layers\.0\.mlp\.act_fn is passed by a NoneType"):
        capture(*batch)


def test_no_sites():
    with pytest.raises(ValueError, match="sites is an empty list: give"):
        ActivationCapture(Odd(), [])
