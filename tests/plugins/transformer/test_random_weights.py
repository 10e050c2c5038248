import pytest
import torch
import transformers
from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import load_model
from sparsecode_transformer.random_weights import embedding_weights, shuffle_weights

EMBEDDINGS = {
    "bert": [
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
    ],
    "llama": ["embed_tokens.weight"],
    "gpt2": ["wte.weight", "wpe.weight"],
    "neox": ["embed_in.weight"],
    "opt": ["decoder.embed_tokens.weight", "decoder.embed_positions.weight"],
    "bloom": ["word_embeddings.weight", "word_embeddings_layernorm.weight", "word_embeddings_layernorm.bias"],
    "falcon": ["word_embeddings.weight"],
    "t5": ["embed_tokens.weight"],
}


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_the_embeddings_are_what_hidden_state_0_depends_on(tiny_models, name):
    model = tiny_models[name].requires_grad_(True)
    try:
        found = embedding_weights(model)
    finally:
        model.requires_grad_(False)
    tied = {"embed_tokens.weight": "shared.weight"}
    assert {tied.get(x, x) if x not in EMBEDDINGS[name] else x for x in found} == set(EMBEDDINGS[name])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_without_blocks_has_no_known_embeddings():
    with pytest.raises(ValueError, match="where the embeddings of this ResNetModel end: give all or shuffled"):
        embedding_weights(transformers.ResNetModel(transformers.ResNetConfig(depths=[1], hidden_sizes=[8])))


@pytest.fixture(params=["stories", "minilm", "bert", "gpt2"])
def folder(request, tiny_models, tmp_path) -> str:
    """Real models and small ones."""
    if request.param in tiny_models:
        tiny_models[request.param].save_pretrained(tmp_path)
        return str(tmp_path)
    return locate_model(request.getfixturevalue(request.param))


def test_all_but_the_embeddings_are_those_before_training(folder, batch):
    ids, mask = batch
    trained, untrained, mixed = (
        load_model(folder, device="cpu", **settings)
        for settings in ({}, {"random_weights": 3}, {"random_weights": 3, "randomise": "all_but_embeddings"})
    )
    kept = embedding_weights(trained.requires_grad_(True))
    assert kept
    for name, weight in weights(mixed).items():
        assert torch.equal(weight, kept.get(name, weights(untrained)[name]))
        assert not weight.requires_grad
    first, second, third = (
        model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for model in (trained, mixed, untrained)
    )
    assert torch.equal(first[0], second[0])
    assert not torch.isclose(first[1], second[1]).all(-1)[mask.bool()].any()
    assert not torch.isclose(third[1], second[1]).all(-1)[mask.bool()].any()


@pytest.mark.parametrize("folder", ["stories", "bert", "gpt2"], indirect=True)
def test_shuffled_weights_are_the_trained_ones_in_another_order(folder):
    trained = load_model(folder, device="cpu")
    shuffled, again, other = (
        load_model(folder, device="cpu", random_weights=seed, randomise="shuffled") for seed in (3, 3, 4)
    )
    assert weights(shuffled).keys() == weights(trained).keys()
    for name, weight in weights(shuffled).items():
        if "pooler" not in name:  # which may be drawn anew, and on which no hidden state depends
            before = weights(trained)[name]
            assert torch.equal(weight.flatten().sort().values, before.flatten().sort().values)
            assert torch.equal(weight, weights(again)[name])
            if len(before.unique()) > 20:
                assert float((weight == before).double().mean()) < 0.5
                assert not torch.equal(weight, weights(other)[name])
    for name, buffer in trained.named_buffers():
        assert torch.equal(buffer, shuffled.get_buffer(name))


def test_weights_of_one_shape_are_shuffled_differently():
    pair = torch.nn.ModuleList([torch.nn.Linear(8, 8, bias=False) for _ in range(2)])
    pair[0].weight.data = pair[1].weight.data = torch.arange(64.0).view(8, 8)
    pair[1].weight.data = pair[1].weight.data.clone()
    shuffle_weights(pair, 0)
    assert not torch.equal(pair[0].weight, pair[1].weight)


def test_tied_weights_stay_tied():
    pair = torch.nn.ModuleList([torch.nn.Linear(8, 8, bias=False) for _ in range(2)])
    pair[1].weight = pair[0].weight
    before = pair[0].weight.detach().clone()
    shuffle_weights(pair, 0)
    assert pair[1].weight is pair[0].weight
    assert torch.equal(before.flatten().sort().values, pair[0].weight.flatten().sort().values)


@pytest.mark.parametrize("randomise", ["all_but_embeddings", "shuffled"])
def test_the_global_generator_is_left_alone(saved_llama, randomise):
    state = torch.get_rng_state()
    load_model(str(saved_llama), device="cpu", random_weights=0, randomise=randomise)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("randomise", ["all_but_embeddings", "shuffled"])
def test_half_precision_rounds_the_same_weights(saved_llama, randomise):
    whole, half = (
        load_model(str(saved_llama), device="cpu", dtype=dtype, random_weights=0, randomise=randomise)
        for dtype in ("float32", "bfloat16")
    )
    for name, weight in weights(half).items():
        assert torch.equal(weight, weights(whole)[name].bfloat16())


def test_what_is_random_needs_a_seed_and_a_name(saved_llama):
    with pytest.raises(ValueError, match="randomise is 'some': give one of all, all_but_embeddings, shuffled"):
        load_model(str(saved_llama), random_weights=0, randomise="some")
    with pytest.raises(ValueError, match=r"randomise is 'shuffled', but random_weights is None.* give a seed"):
        load_model(str(saved_llama), randomise="shuffled")
