import pytest

from sparsecode_pl.interchange.hooks import hook_of_layer, is_other_layer, is_other_model, layer_of_hook


@pytest.mark.parametrize("layer", ["0", "3", "mlp.3", "attention.11", "mlp_hidden.0"])
def test_a_layer_is_that_of_its_hook(layer):
    assert layer_of_hook(hook_of_layer(layer)) == layer


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.7.hook_resid_post", "8"),
        ("transformer.h.7", "8"),
        ("model.layers.7.mlp", "mlp.7"),
        ("layers.7.mlp", "mlp.7"),
        ("embed_tokens", "0"),
        ("blocks.7.attn.hook_z", None),
        ("blocks.7.hook_resid_mid", None),
        ("anything", None),
    ],
)
def test_hooks_and_modules_are_found(hook, layer):
    assert layer_of_hook(hook) == layer


def test_only_places_that_are_both_known_can_differ():
    assert is_other_layer("3", "blocks.3.hook_resid_post")
    assert not is_other_layer("4", "blocks.3.hook_resid_post")
    assert not is_other_layer("3", "blocks.3.hook_resid_mid")
    assert not is_other_layer("model.layers.3", "blocks.3.hook_resid_post")
    assert is_other_layer("mlp.3", "blocks.3.hook_resid_pre")


def test_names_of_a_model_may_have_an_owner():
    assert not is_other_model("gpt2", "gpt2-small")
    assert not is_other_model("EleutherAI/pythia-70m", "pythia-70m")
    assert is_other_model("pythia-70m", "pythia-70m-deduped")
