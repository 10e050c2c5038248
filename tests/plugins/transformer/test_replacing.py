"""Activations are replaced once in a pass, or an error says why not."""

import pytest
import torch
from sparsecode_transformer.replacing import Replacing
from sparsecode_transformer.sites import Site, find_sites


@pytest.mark.parametrize("kind", ["residual", "mlp", "attention", "mlp_hidden"])
def test_every_site_of_every_model_can_be_replaced(tiny, batch, kind):
    ids, attention = batch
    mask = attention.bool()
    with torch.no_grad():
        clean = tiny(input_ids=ids, attention_mask=attention)[0]
        for site in find_sites(tiny, site=kind):
            seen = []

            def keep(x, seen=seen):
                seen.append(x)
                return x

            with Replacing(tiny, site, mask, keep):
                same = tiny(input_ids=ids, attention_mask=attention)[0]
            assert torch.equal(same, clean)
            assert len(seen[0]) == int(mask.sum())
            with Replacing(tiny, site, mask, lambda x: 2 * x + 1):
                other = tiny(input_ids=ids, attention_mask=attention)[0]
            assert not torch.allclose(other[mask], clean[mask], atol=1e-4)
            assert torch.equal(tiny(input_ids=ids, attention_mask=attention)[0], clean)  # the hooks are gone


def test_a_replacement_of_another_shape_is_refused(tiny_models, batch):
    ids, attention = batch
    model = tiny_models["gpt2"]
    with (
        pytest.raises(ValueError, match=r"replace gives shape \(4,\) for activations of \(19, 8\)"),
        Replacing(model, find_sites(model, 1)[0], attention.bool(), lambda x: torch.zeros(4)),
    ):
        model(input_ids=ids, attention_mask=attention)


def test_a_site_that_nothing_passes_is_refused(tiny_models, batch):
    model = tiny_models["gpt2"]
    with (
        pytest.raises(ValueError, match=r"layer 1: nothing passes there"),
        Replacing(model, find_sites(model, 1)[0], batch[1].bool(), torch.zeros_like),
    ):
        pass


def test_a_site_that_is_passed_twice_is_refused(tiny_models, batch):
    ids, attention = batch
    model = tiny_models["llama"]
    site = Site("act", "layers.0.mlp.act_fn", "output")
    with Replacing(model, site, attention.bool(), lambda x: x):
        model(input_ids=ids, attention_mask=attention)
        with pytest.raises(ValueError, match="layer act is passed more than once"):
            model(input_ids=ids, attention_mask=attention)
