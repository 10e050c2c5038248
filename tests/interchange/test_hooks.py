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
        ("layers.7.self_attn", "attention.7"),
        ("transformer.h.7.attn", "attention.7"),
        ("layers.7.attention", "attention.7"),
        ("layer.7.attention", None),  # the norm after it is included
        ("blocks.8.hook_resid_pre_768", "8"),
        ("blocks.8.attn.hook_z_768", None),
        ("embed_tokens", "0"),
        ("blocks.7.attn.hook_z", None),
        ("blocks.7.hook_resid_mid", None),
        ("anything", None),
    ],
)
def test_hooks_and_modules_are_found(hook, layer):
    assert layer_of_hook(hook) == layer


def test_places_that_are_both_known_are_compared(recwarn):
    assert is_other_layer("3", "blocks.3.hook_resid_post")
    assert not is_other_layer("4", "blocks.3.hook_resid_post")
    assert not is_other_layer("model.layers.3", "blocks.3.hook_resid_post")
    assert is_other_layer("mlp.3", "blocks.3.hook_resid_pre")
    assert is_other_layer("3", "blocks.8.hook_resid_pre_768")
    assert is_other_layer("3", "layers.3.self_attn")
    assert not recwarn


@pytest.mark.parametrize("hook", ["blocks.7.attn.hook_z", "blocks.7.hook_resid_mid", "h.7.ln_1", "model.layers.7.a.b"])
def test_of_a_place_that_is_not_known_the_block_tells(hook, recwarn):
    for layer in ("3", "6", "9", "mlp.3", "attention.8", "model.layers.3.mlp.down_proj"):
        assert is_other_layer(layer, hook)
    assert not is_other_layer(hook, hook)
    assert not recwarn
    for layer in ("7", "8", "mlp.7", "attention.7", "model.layers.7.mlp.down_proj"):
        with pytest.warns(UserWarning, match=f"is of '{hook}', and whether that is layer '{layer}' of the data is not"):
            assert not is_other_layer(layer, hook)


def test_of_a_place_without_a_block_nothing_is_known():
    with pytest.warns(UserWarning, match="is of 'residual', and whether that is layer '3'"):
        assert not is_other_layer("3", "residual")


def test_names_of_a_model_may_have_an_owner():
    assert not is_other_model("gpt2", "gpt2-small")
    assert not is_other_model("EleutherAI/pythia-70m", "pythia-70m")
    assert is_other_model("pythia-70m", "pythia-70m-deduped")
    assert not is_other_model("gpt2 (2)", "gpt2")  # the second of this name
