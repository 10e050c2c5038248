import pytest
import transformers
from sparsecode_transformer.sites import Site, find_sites
from torch import nn

BLOCKS = {
    "bert": "encoder.layer",
    "llama": "layers",
    "gpt2": "h",
    "neox": "layers",
    "opt": "decoder.layers",
    "bloom": "h",
    "falcon": "h",
    "t5": "block",
}
ATTENTION = {
    "bert": "attention.output.dense",
    "llama": "self_attn",
    "gpt2": "attn",
    "neox": "attention",
    "opt": "self_attn",
    "bloom": "self_attention.dense",
    "falcon": "self_attention.dense",
    "t5": "layer.0.SelfAttention",
}
DOWN_PROJECTION = {
    "bert": "output.dense",
    "llama": "mlp.down_proj",
    "gpt2": "mlp.c_proj",
    "neox": "mlp.dense_4h_to_h",
    "opt": "fc2",
    "bloom": "mlp.dense_4h_to_h",
    "falcon": "mlp.dense_4h_to_h",
    "t5": "layer.1.DenseReluDense.wo",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_hidden_states_are_the_inputs_of_the_blocks_and_the_output_of_the_model(tiny_models, name):
    blocks = BLOCKS[name]
    expected = [Site(str(index), f"{blocks}.{index}", "input") for index in range(3)]
    assert find_sites(tiny_models[name]) == [*expected, Site("3", "", "output")]


@pytest.mark.parametrize("name", BLOCKS)
def test_sublayers_are_found_by_their_names(tiny_models, name):
    model, blocks = tiny_models[name], BLOCKS[name]
    for kind, module, side in [
        ("attention", ATTENTION, "output"),
        ("mlp", DOWN_PROJECTION, "output"),
        ("mlp_hidden", DOWN_PROJECTION, "input"),
    ]:
        expected = [Site(f"{kind}.{index}", f"{blocks}.{index}.{module[name]}", side) for index in range(3)]
        assert find_sites(model, "all", kind) == expected


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (0, ["0"]),
        ("3", ["3"]),
        (-1, ["3"]),
        ("-4", ["0"]),
        ([2, "0", -1], ["0", "2", "3"]),
        ([1, 1, -3], ["1"]),
        ([3, "all"], ["0", "1", "2", "3"]),
    ],
)
def test_indices_of_hidden_states(tiny_models, layers, names):
    assert [site.name for site in find_sites(tiny_models["llama"], layers)] == names


@pytest.mark.parametrize(("layers", "names"), [(-1, ["mlp.2"]), (["0", 2], ["mlp.0", "mlp.2"])])
def test_indices_of_blocks(tiny_models, layers, names):
    assert [site.name for site in find_sites(tiny_models["llama"], layers, site="mlp")] == names


def test_ten_blocks_and_more_are_in_the_order_of_the_model():
    config = transformers.GPT2Config(vocab_size=4, n_embd=2, n_layer=12, n_head=1, n_positions=4)
    model = transformers.GPT2Model(config)
    assert [site.name for site in find_sites(model)] == [str(index) for index in range(13)]
    assert [site.name for site in find_sites(model, "h.*.mlp")] == [f"h.{index}.mlp" for index in range(12)]


@pytest.mark.parametrize("pattern", ["model.layers.*.mlp", "layers.*.mlp", "layers.[0-2].mlp"])
def test_names_have_wildcards_and_may_have_the_prefix_of_a_model_with_a_head(tiny_models, pattern):
    model = tiny_models["llama"]
    names = [f"layers.{index}.mlp" for index in range(3)]
    assert find_sites(model, pattern) == [Site(name, name, "output") for name in names]
    assert find_sites(model, pattern, site="mlp_hidden") == find_sites(model, pattern)


def test_indices_and_names_mix_in_the_order_of_the_model(tiny_models):
    sites = find_sites(tiny_models["llama"], ["norm", -1, "layers.1.mlp", 1, "model.layers.1.mlp", "layers.1"])
    assert sites == [
        Site("1", "layers.1", "input"),
        Site("layers.1", "layers.1", "output"),
        Site("layers.1.mlp", "layers.1.mlp", "output"),
        Site("norm", "norm", "output"),
        Site("3", "", "output"),
    ]


def test_lists_of_modules_are_not_captured(tiny_models):
    assert [site.name for site in find_sites(tiny_models["gpt2"], ["h*", "drop"])][:2] == ["drop", "h.0"]


@pytest.mark.parametrize(
    ("layers", "site", "what"),
    [
        (4, "residual", "hidden states of this LlamaModel are 0 to 3"),
        (-5, "residual", "hidden states of this LlamaModel are 0 to 3"),
        ("3", "mlp", "blocks of this LlamaModel are 0 to 2"),
    ],
)
def test_an_index_out_of_range(tiny_models, layers, site, what):
    with pytest.raises(ValueError, match=f"layers is {layers}, and the {what}"):
        find_sites(tiny_models["llama"], [0, layers], site)


def test_a_name_that_matches_nothing_is_answered_by_the_nearest(tiny_models):
    message = r"layers is 'model\.layers\.\*\.mpl', and no module .* one of layers\.\*\.mlp, .* and \d+ more"
    with pytest.raises(ValueError, match=message) as error:
        find_sites(tiny_models["llama"], ["all", "model.layers.*.mpl"])
    assert len(str(error.value)) < 500
    assert "layers.0" not in str(error.value)


def test_neither_layers_nor_site_are_guessed(tiny_models):
    with pytest.raises(ValueError, match="layers is an empty list: give"):
        find_sites(tiny_models["llama"], [])
    with pytest.raises(ValueError, match="site is 'mpl': give one of residual, mlp, mlp_hidden, attention"):
        find_sites(tiny_models["llama"], "all", "mpl")


def test_a_model_without_a_list_of_blocks_has_names_only():
    sizes = {"hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "embedding_size": 4}
    model = transformers.AlbertModel(transformers.AlbertConfig(vocab_size=8, num_hidden_layers=3, **sizes))
    with pytest.raises(ValueError, match=r"AlbertModel has no list of blocks .* \(3\): give layers as names .* embed"):
        find_sites(model)
    assert [site.module for site in find_sites(model, "embeddings")] == ["embeddings"]


def test_blocks_of_unknown_make(tiny_models):
    model = transformers.GPT2Model(transformers.GPT2Config(vocab_size=4, n_embd=2, n_layer=2, n_head=1))
    for block in model.h:
        block.mlp = nn.Sequential(block.mlp)
    assert find_sites(model, 0, "mlp") == [Site("mlp.0", "h.0.mlp", "output")]
    with pytest.raises(
        ValueError, match=r"site is 'mlp_hidden', and .* h\.0 in this GPT2Model .* of the block are ln_1"
    ):
        find_sites(model, 0, "mlp_hidden")
