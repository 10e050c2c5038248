"""Autoencoders of sparsify, whose files are made by hand from a few tensors."""

import json

import pytest
import torch
from safetensors.torch import save_file

from sparsecode_pl.interchange import load_autoencoder

D, M = 6, 24


def tensors():
    random = torch.Generator().manual_seed(0)
    shapes = {"encoder.weight": (M, D), "encoder.bias": (M,), "W_dec": (M, D), "b_dec": (D,)}
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def write(folder, changes=None, left_out=(), further=None, **config):
    folder.mkdir(parents=True, exist_ok=True)
    given = {name: each for name, each in tensors().items() if name not in left_out} | (further or {})
    save_file(given | (changes or {}), folder / "sae.safetensors")
    defaults = {"expansion_factor": 4, "normalize_decoder": True, "num_latents": 0, "k": 3, "d_in": D}
    (folder / "cfg.json").write_text(json.dumps(defaults | config))
    return folder


def rows():
    return 2 * torch.randn(40, D, generator=torch.Generator().manual_seed(1))


def by_hand(x, k=3, activation="topk", signed=False):
    """The activations of sparsify, one row at a time."""
    t = tensors()
    found = torch.zeros(len(x), M)
    for row, out in zip(x, found, strict=True):
        before = t["encoder.weight"] @ (row - t["b_dec"]) + t["encoder.bias"]
        before = before if signed else before.relu()
        groups = [range(M)] if activation == "topk" else [range(i * M // k, (i + 1) * M // k) for i in range(k)]
        for group in groups:
            best = sorted(group, key=lambda i: -abs(float(before[i])))[: k if activation == "topk" else 1]
            out[best] = before[best]
    return found


@pytest.mark.parametrize(
    "settings", [{"k": 3}, {"k": 4, "activation": "topk"}, {"k": 6, "activation": "groupmax"}, {"k": 3, "signed": True}]
)
def test_codes_and_reconstruction_are_those_of_the_formula(tmp_path, settings):
    own, x, t = load_autoencoder(write(tmp_path / "layers.3", **settings)), rows(), tensors()
    activations = by_hand(x, **settings)
    dense = own.encode(x).to_dense()
    dense = dense[:, :M] - dense[:, M:] if settings.get("signed") else dense
    torch.testing.assert_close(dense, activations * t["W_dec"].norm(dim=1), atol=1e-5, rtol=1e-5)
    expected = activations @ t["W_dec"] + t["b_dec"]
    torch.testing.assert_close(own.reconstruct(x, own.encode(x)), expected, atol=1e-5, rtol=1e-5)


def test_place_and_model_come_from_the_folder_and_the_configuration_beside_it(tmp_path):
    folder = write(tmp_path / "run" / "layers.3")
    assert load_autoencoder(folder).origin.model is None
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "me/toy"}))
    origin = load_autoencoder(str(folder)).origin
    assert (origin.model, origin.hook, origin.architecture) == ("me/toy", "layers.3", "topk")


def test_half_precision_is_read_as_float32(tmp_path):
    folder = write(tmp_path / "sae", {name: each.bfloat16() for name, each in tensors().items()})
    assert load_autoencoder(folder).encode(rows()).dtype == torch.float32


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"transcode": True}, "it has transcode, and only what reconstructs its own input"),
        ({"skip_connection": True}, "it has skip_connection"),
        ({"further": {"W_skip": torch.zeros(D, D)}}, "it has skip_connection"),
        ({"gram_lookup": True}, "it has gram_lookup"),
        ({"activation": "jump"}, "its activation is 'jump', and topk and groupmax can be read"),
        ({"k": 25}, "its k is 25, and it has 24 features"),
        ({"k": 5, "activation": "groupmax"}, "its k is 5"),
        ({"d_in": 7}, "and d_in is 7"),
        ({"d_in": "6"}, "d_in is '6', not an integer"),
        ({"left_out": ["W_dec"]}, "'W_dec' is missing"),
        ({"changes": {"b_dec": torch.full((D,), torch.nan)}}, "bias has values that are NaN"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, wrong, reason):
    folder = write(tmp_path / "sae", **wrong)
    with pytest.raises(ValueError, match="which cannot be read as an autoencoder of sparsify") as raised:
        load_autoencoder(folder)
    assert reason in str(raised.value)


def test_a_damaged_file_is_refused(tmp_path):
    folder = write(tmp_path / "sae")
    (folder / "sae.safetensors").write_bytes((folder / "sae.safetensors").read_bytes()[:50])
    with pytest.raises(ValueError, match="which cannot be read as an autoencoder of sparsify"):
        load_autoencoder(folder)


@pytest.mark.parametrize(
    ("folder", "hook"),
    [("16", None), ("run", None), ("layers.3", "layers.3"), ("h.2.mlp", "h.2.mlp"), ("layers.3/seed1", "layers.3")],
)
def test_only_the_name_of_a_module_is_taken_for_a_place(tmp_path, folder, hook):
    assert load_autoencoder(write(tmp_path / folder)).origin.hook == hook


def test_fingerprints_tell_k_apart(tmp_path):
    one, same, other = (load_autoencoder(write(tmp_path / name, k=k)) for name, k in (("a", 3), ("b", 3), ("c", 4)))
    assert one.fingerprint == same.fingerprint != other.fingerprint
