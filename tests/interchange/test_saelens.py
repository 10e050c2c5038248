"""Autoencoders that SAELens itself has written, with random weights, and our dictionaries read by SAELens."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import normalize

sae_lens = pytest.importorskip("sae_lens", reason="needs the extra sae")

from sparsecode_pl import interchange  # noqa: E402
from sparsecode_pl.coding import GreedyCoder, LassoCoder, MatchingPursuitCoder  # noqa: E402
from sparsecode_pl.data import TensorActivations  # noqa: E402
from sparsecode_pl.dictionary import Card, Dictionary  # noqa: E402
from sparsecode_pl.interchange import export_saelens, from_saelens, load_autoencoder  # noqa: E402
from sparsecode_pl.interchange.hooks import is_of_stream  # noqa: E402
from sparsecode_pl.measurement import measure  # noqa: E402
from sparsecode_pl.module import SparseCodingModule  # noqa: E402
from sparsecode_pl.scoring import score  # noqa: E402

D, K = 12, 40
NORMALISATIONS = ["none", "constant_norm_rescale", "layer_norm"]
# For each architecture, further settings and the parameters that are not 0 or 1 in a trained one.
ARCHITECTURES = {
    "standard": {},
    "topk": {"k": 5},
    "abstopk": {"k": 5},
    "jumprelu": {},
    "gated": {},
    "matching_pursuit": {"max_iterations": 6, "residual_threshold": 0.1},
}


def rows(num=50):
    return 3 * torch.randn(num, D, generator=torch.Generator().manual_seed(1)) + 1


def randomised(sae):
    """The same with random weights, decoder rows of all norms and a zero row."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            drawn = torch.randn(parameter.shape, generator=random)
            parameter.copy_(0.3 * (drawn.abs() if name == "threshold" else drawn))
        sae.W_dec[7] = 0
    return sae


@pytest.fixture
def written(tmp_path):
    """Writes an autoencoder by SAELens, and gives its folder and what SAELens reads from it."""

    def written(architecture, metadata=None, **settings):
        kind, config = sae_lens.registry.get_sae_class(architecture)
        made = config(d_in=D, d_sae=K, **{**ARCHITECTURES[architecture], **settings})
        for name, value in (metadata or {}).items():
            made.metadata[name] = value
        randomised(kind(made)).save_model(tmp_path / "sae")
        return tmp_path / "sae", sae_lens.SAE.load_from_disk(tmp_path / "sae")

    return written


def check_same(own, sae, x, activations=None):
    """Reconstruction and codes are the library's own."""
    with torch.no_grad():
        expected = sae(x)
        activations = sae.encode(x) if activations is None else activations
    codes = own.encode(x)
    torch.testing.assert_close(own.reconstruct(x, codes), expected.reshape(x.shape), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own.residual(x, codes), x - expected.reshape(x.shape), atol=1e-5, rtol=1e-5)
    return codes, activations


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("bias_on_input", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reconstruction_and_codes_are_those_of_saelens(written, architecture, bias_on_input, normalisation):
    folder, sae = written(architecture, apply_b_dec_to_input=bias_on_input, normalize_activations=normalisation)
    own, x = load_autoencoder(folder), rows()
    assert (own.origin.architecture, own.origin.name) == (architecture, str(folder))
    codes, activations = check_same(own, sae, x)
    scale = {"none": 1.0, "constant_norm_rescale": x.norm(dim=1, keepdim=True) / D**0.5}.get(normalisation)
    scale = x.std(dim=1, keepdim=True) if scale is None else scale
    expected = activations * sae.W_dec.norm(dim=1) * scale
    dense = codes.to_dense()
    if architecture == "abstopk":
        assert own.num_atoms == 2 * K
        assert (expected < 0).any()
        dense = dense[:, :K] - dense[:, K:]
    assert torch.count_nonzero(dense) > len(x)
    torch.testing.assert_close(dense, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own.atoms.norm(dim=1), torch.ones(own.num_atoms))


def test_activations_of_unit_decoder_rows_are_not_scaled_again(written):
    folder, sae = written("topk", rescale_acts_by_decoder_norm=True)
    with torch.no_grad():
        sae.W_dec[7] = torch.ones(D)  # SAELens divides by the norm
    sae.save_model(folder)
    codes, activations = check_same(load_autoencoder(folder), sae, rows())
    torch.testing.assert_close(codes.to_dense(), activations, atol=1e-5, rtol=1e-5)


def test_heads_are_flat_rows(written):
    folder, sae = written("standard", {"hook_name": "blocks.1.attn.hook_z"}, reshape_activations="hook_z")
    own, x = load_autoencoder(folder), rows()
    with torch.no_grad():
        expected = sae(x.reshape(-1, 3, D // 3)).flatten(1)
    torch.testing.assert_close(own.reconstruct(x, own.encode(x)), expected, atol=1e-5, rtol=1e-5)
    assert own.origin.hook == "blocks.1.attn.hook_z"


def test_explained_variance_is_about_the_mean_in_the_units_of_the_activations(written):
    folder, sae = written("topk", normalize_activations="layer_norm")
    own, x = load_autoencoder(folder), rows()
    own.adapt_penalty(x)
    with torch.no_grad():
        wrong = (x - sae(x)).square().sum()
    expected = 1 - wrong / (x - x.mean(dim=0)).square().sum()
    scores = score(own, x)
    assert float(scores["explained_variance"]) == pytest.approx(float(expected), abs=1e-5)
    largest = own.encode(x).to_dense().amax(dim=1).mean()
    assert own.lam == pytest.approx(0.1 * float(largest))
    assert float(scores["N0"]) <= 5
    assert math.isfinite(float(scores["L_norm"]))


def test_a_row_of_zeros_has_no_codes_where_saelens_divides_by_its_norm(written):
    own = load_autoencoder(written("standard", normalize_activations="constant_norm_rescale")[0])
    codes = own.encode(torch.zeros(2, D))
    assert codes.values().numel() == 0
    assert torch.equal(own.reconstruct(torch.zeros(2, D), codes), torch.zeros(2, D))


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka_batchtopk"])
def test_batchtopk_is_read_as_saelens_saves_it_for_use(tmp_path, kind, recwarn):
    made, config = sae_lens.registry.get_sae_training_class(kind)
    widths = {"matryoshka_widths": [10, K]} if kind.startswith("m") else {}
    training = randomised(made(config(d_in=D, d_sae=K, k=4, **widths)))
    training.topk_threshold.fill_(0.7)
    training.save_model(tmp_path / "training")
    training.save_inference_model(tmp_path / "use")
    sae = sae_lens.SAE.load_from_disk(tmp_path / "use")
    for name in ("training", "use"):
        codes, _ = check_same(load_autoencoder(tmp_path / name), sae, rows())
        assert codes.values().numel() > 0
    alone = load_autoencoder(tmp_path / "training").encode(rows()[:1]).to_dense()
    torch.testing.assert_close(alone[0], codes.to_dense()[0])  # whichever rows are beside it
    assert not [one for one in recwarn if "threshold" in str(one.message)]
    training.topk_threshold.fill_(0.0)
    training.save_model(tmp_path / "training")
    with pytest.warns(UserWarning, match="whose threshold is 0, as before training"):
        load_autoencoder(tmp_path / "training")


def test_the_scaling_of_a_checkpoint_is_folded_in(written):
    folder, sae = written("standard", normalize_activations="expected_average_only_in")
    with pytest.raises(ValueError, match=r"activation_scaler.json with a scaling_factor > 0 is not beside its weights"):
        load_autoencoder(folder)
    with pytest.raises(
        ValueError, match=r"whose normalize_activations is 'expected_average_only_in', .* call its fold"
    ):
        from_saelens(sae)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.5, "has_whitening": False}))
    own, x = load_autoencoder(folder), rows()
    with torch.no_grad():
        expected = sae(x * 0.5) / 0.5
    torch.testing.assert_close(own.reconstruct(x, own.encode(x)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["batchtopk", "standard"])
def test_the_whitening_of_a_checkpoint_is_folded_in(tmp_path, kind):
    made, config = sae_lens.registry.get_sae_training_class(kind)
    settings = {"k": 4} if kind == "batchtopk" else {}
    sae = randomised(made(config(d_in=D, d_sae=K, normalize_activations="covariance_whitening", **settings)))
    if kind == "batchtopk":
        sae.topk_threshold.fill_(0.1)
    scaler, x = sae_lens.training.activation_scaler.ActivationScaler(), rows()
    scaler.estimate_whitening(D, iter([rows(500)]), 1)
    sae.save_model(tmp_path)
    for missing in ({}, {"scaling_factor": None, "has_whitening": True}):
        (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": None} | missing))
        with pytest.raises(ValueError, match=r"and activation_whitening.safetensors is not beside its weights"):
            load_autoencoder(tmp_path)
    scaler.save(str(tmp_path / "activation_scaler.json"))
    sae.save_inference_model(tmp_path / "use")
    use = sae_lens.SAE.load_from_disk(tmp_path / "use")
    own = load_autoencoder(tmp_path)
    with torch.no_grad():
        activations = use.encode(scaler.scale(x))
        expected = scaler.unscale(use(scaler.scale(x)))
    codes = own.encode(x)
    assert codes.values().numel() > 0
    torch.testing.assert_close(codes.to_dense() / own.norms.clamp(min=1e-9), activations * (own.norms > 0))
    torch.testing.assert_close(own.reconstruct(x, codes), expected, atol=1e-4, rtol=1e-4)


def test_a_whitening_that_the_architecture_cannot_take_is_refused(written):
    folder, _ = written("matching_pursuit", normalize_activations="covariance_whitening")
    scaler = sae_lens.training.activation_scaler.ActivationScaler()
    scaler.estimate_whitening(D, iter([rows(500)]), 1)
    scaler.save(str(folder / "activation_scaler.json"))
    with pytest.raises(ValueError, match=r"which SAELens cannot read .*Folding activation whitening is not supported"):
        load_autoencoder(folder)


CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}, "model_name": "gpt2-small"}


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_where_writing_weights_were_centred_rows_lose_their_mean_and_get_it_back(
    written, architecture, normalisation, recwarn
):
    metadata = CENTRED | {"hook_name": "blocks.3.hook_resid_pre"}
    folder, sae = written(architecture, metadata, normalize_activations=normalisation)
    recwarn.clear()
    x = rows() + torch.linspace(-20, 20, 50)[:, None]
    mean = x.mean(dim=1, keepdim=True)
    for own in (load_autoencoder(folder), from_saelens(sae)):
        codes = own.encode(x)
        with torch.no_grad():
            expected, activations = sae(x - mean) + mean, sae.encode(x - mean)
        torch.testing.assert_close(own.reconstruct(x, codes), expected, atol=2e-5, rtol=1e-5)
        assert torch.equal(codes.to_dense() > 0, activations * sae.W_dec.norm(dim=1) > 0)
        left = own.with_coder(GreedyCoder())
        torch.testing.assert_close(
            left.encode(x, 0.5).to_dense(), left.encode(x - mean, 0.5).to_dense(), atol=1e-3, rtol=0
        )
    assert not recwarn


def test_means_stay_where_centring_changes_nothing(written):
    x = rows()
    for changes in (
        {"hook_name": "blocks.3.mlp.hook_post"},
        {"hook_name": "blocks.3.hook_resid_pre", "model_name": "google/gemma-2b"},
    ):
        folder, sae = written("standard", CENTRED | changes)
        check_same(load_autoencoder(folder), sae, x)


def test_centred_weights_of_a_model_centre_the_rows_of_its_stream():
    lens = pytest.importorskip("transformer_lens")
    config = {"n_layers": 2, "d_model": D, "n_ctx": 8, "d_head": 6, "d_vocab": 20, "act_fn": "relu"}
    model = lens.HookedTransformer(lens.HookedTransformerConfig(**config, normalization_type="LN", seed=0))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    tokens = torch.arange(8)[None]
    before = model.run_with_cache(tokens)[1]
    model.load_state_dict(model.center_writing_weights(model.state_dict()))
    after = model.run_with_cache(tokens)[1]
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-3)}
    assert {name for name in before if is_of_stream(name)} == changed
    for name in changed:
        expected = before[name] - before[name].mean(dim=-1, keepdim=True)
        torch.testing.assert_close(after[name], expected, atol=1e-4, rtol=1e-4)


def test_other_changes_of_the_model_are_named(written):
    kwargs = {"fold_ln": True, "revision": "step3000", "center_unembed": True, "fold_value_biases": False}
    folder, _ = written("standard", {"model_from_pretrained_kwargs": kwargs, "hook_name": "blocks.1.attn.hook_z"})
    with pytest.warns(UserWarning, match=r"that was loaded with fold_ln=True, revision='step3000': its activations"):
        load_autoencoder(folder)
    folder, _ = written("standard", {"model_from_pretrained_kwargs": kwargs, "hook_name": "blocks.1.hook_mlp_out"})
    with pytest.warns(UserWarning, match=r"that was loaded with revision='step3000': its activations"):
        load_autoencoder(folder)
    folder, _ = written("standard", CENTRED)
    with pytest.warns(UserWarning, match=r"on an unknown place of a model .* center_writing_weights=True"):
        load_autoencoder(folder)


def test_another_coder_on_the_decoder_codes_what_the_bias_leaves(written):
    folder, _ = written("topk", normalize_activations="layer_norm")
    own, x = load_autoencoder(folder), rows()
    own.adapt_penalty(x)
    for coder in (GreedyCoder(), LassoCoder()):
        codec = own.with_coder(coder)
        codes = codec.encode(x, 0.5)
        expected = coder(x - own.offset(x), own.atoms, 0.5)
        torch.testing.assert_close(codes.to_dense(), expected.to_dense())
        torch.testing.assert_close(codec.residual(x, codes), x - own.offset(x) - codes.to_dense() @ own.atoms)
        assert codec.lam == own.lam
    better, worse = (float(score(codec, x)["L"]) for codec in (own.with_coder(LassoCoder()), own))
    assert better < worse  # the exact codes minimise the objective on this decoder


def test_an_architecture_that_is_no_autoencoder_is_refused(tmp_path):
    kind, config = sae_lens.registry.get_sae_class("transcoder")
    kind(config(d_in=D, d_sae=K, d_out=D, apply_b_dec_to_input=False)).save_model(tmp_path)
    with pytest.raises(ValueError, match=r"'transcoder', which maps one place .* to another: give one of standard"):
        load_autoencoder(tmp_path)
    content = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**content, "architecture": "temporal"}))
    with pytest.raises(ValueError, match="'temporal', whose codes depend on the tokens before"):
        load_autoencoder(tmp_path)


def test_damaged_files_are_refused(written):
    folder, _ = written("standard")
    good = (folder / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"which SAELens cannot read \(SafetensorError"):
        load_autoencoder(folder)
    (folder / "cfg.json").write_text("{")
    with pytest.raises(ValueError, match=r"whose cfg.json is damaged"):
        load_autoencoder(folder)
    with pytest.raises(ValueError, match=r"which SAELens cannot read \(ValueError: Release nowhere not found"):
        load_autoencoder("nowhere:blocks.1.hook_resid_pre")


# --- our dictionaries as autoencoders --------------------------------------------------------------------------------


def dictionary(coder=None, scale=1.0, lam=0.4):
    random = torch.Generator().manual_seed(0)
    atoms = normalize(torch.randn(K, D, generator=random), dim=1)
    card = Card(data="toy layer 3", model="me/toy", layer="3", scores={"N0": 3.4})
    return Dictionary(atoms, torch.randn(D, generator=random), scale, lam, coder, card)


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("coder", [None, GreedyCoder(max_atoms=2), LassoCoder(), MatchingPursuitCoder(3)])
def test_an_export_encodes_and_decodes_as_the_dictionary(tmp_path, coder, scale):
    mine, x = dictionary(coder, scale), rows()
    export_saelens(mine, tmp_path / "out")
    sae = sae_lens.SAE.load_from_disk(tmp_path / "out")
    assert sae.cfg.architecture() == "sparsecode_greedy"
    assert torch.equal(sae.W_dec, mine.atoms)
    assert torch.equal(sae.b_dec, mine.centre)
    assert (sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name) == ("me/toy", "blocks.3.hook_resid_pre")
    codes = mine.encode(x)
    assert torch.equal(sae.encode(x), codes.to_dense() * scale)
    with torch.no_grad():
        torch.testing.assert_close(sae(x), mine.decode(codes), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(sae(x.reshape(5, 10, D)).reshape(x.shape), sae(x))
    sae.save_model(tmp_path / "again")
    assert torch.equal(sae_lens.SAE.load_from_disk(tmp_path / "again").encode(x), sae.encode(x))
    own = load_autoencoder(tmp_path / "out")
    torch.testing.assert_close(own.encode(x).to_dense(), codes.to_dense() * scale)


def test_an_export_as_matching_pursuit_warns_that_its_codes_differ(tmp_path):
    mine, x = dictionary(), rows()
    with pytest.warns(UserWarning, match="matching_pursuit gives other codes than the dictionary: they are not shrunk"):
        export_saelens(mine, tmp_path / "out", architecture="matching_pursuit", hook_name="blocks.3.hook_resid_post")
    sae = sae_lens.SAE.load_from_disk(tmp_path / "out")
    assert (sae.cfg.max_iterations, sae.cfg.metadata.hook_name) == (3, "blocks.3.hook_resid_post")
    assert (sae.encode(x) != 0).sum(dim=1).max() <= 3
    with pytest.warns(UserWarning, match="an atom may be taken twice"):
        export_saelens(mine, tmp_path / "out", architecture="matching_pursuit", steps=1)
    codes = sae_lens.SAE.load_from_disk(tmp_path / "out").encode(x)
    first = MatchingPursuitCoder(1)(mine.standardise(x), mine.atoms.detach(), 1.0).to_dense()
    torch.testing.assert_close(codes, first)


def test_what_cannot_be_exported_is_refused(tmp_path):
    bare = Dictionary(torch.eye(3))
    with pytest.raises(ValueError, match="the dictionary has no penalty"):
        export_saelens(bare, tmp_path / "out")
    bare.lam = 1.0
    with pytest.raises(ValueError, match="steps is missing, and the dictionary's card has no N0"):
        export_saelens(bare, tmp_path / "out", architecture="matching_pursuit")
    with pytest.raises(ValueError, match="steps is 0: give at least 1"):
        export_saelens(bare, tmp_path / "out", architecture="matching_pursuit", steps=0)
    with pytest.raises(ValueError, match="architecture is 'topk': give"):
        export_saelens(bare, tmp_path / "out", architecture="topk")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds a dictionary or a README.md: give another folder"):
        export_saelens(bare, tmp_path / "out")


FRESH = """
import sparsecode_pl.interchange, sys, torch
assert "sae_lens" not in sys.modules and "lightning" not in sys.modules
from transformers.utils import logging
logging.set_verbosity_info()
sparsecode_pl.interchange.load_autoencoder(sys.argv[1])
assert logging.get_verbosity() == logging.INFO
from sae_lens import SAE
sae = SAE.load_from_disk(sys.argv[1])
torch.save(sae.encode(torch.load(sys.argv[2])), sys.argv[2])
"""


def test_a_fresh_process_reads_an_export_and_keeps_the_messages_of_transformers(tmp_path):
    mine, x = dictionary(), rows()
    export_saelens(mine, tmp_path / "out")
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-c", FRESH, str(tmp_path / "out"), str(tmp_path / "x.pt")]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603
    assert torch.equal(torch.load(tmp_path / "x.pt"), mine.encode(x).to_dense())


def test_an_autoencoder_in_memory_is_a_codec_too(written):
    _, sae = written("gated", {"model_name": "gpt2"})
    own = from_saelens(sae, "mine")
    check_same(own, sae, rows())
    assert (own.origin.name, own.origin.model, own.origin.hook) == ("mine", "gpt2", None)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_an_autoencoder_in_memory_is_used_in_float32_and_left_as_it_is(written, dtype, normalisation):
    metadata = {"hook_name": "blocks.1.attn.hook_z"}
    folder, sae = written("standard", metadata, reshape_activations="hook_z", normalize_activations=normalisation)
    sae = sae.to(dtype=getattr(torch, dtype))
    before = set(vars(sae))
    own, x = from_saelens(sae), rows()
    codes = own.encode(x)
    assert (sae.dtype, sae.W_dec.dtype, sae.cfg.dtype) == (getattr(torch, dtype), getattr(torch, dtype), dtype)
    assert sae.W_dec.requires_grad
    assert sae.hook_z_reshaping_mode
    assert set(vars(sae)) == before
    sae.save_model(folder)
    same = sae_lens.SAE.load_from_disk(folder, dtype="float32")
    with torch.no_grad():
        expected = same(x.reshape(-1, 3, D // 3)).flatten(1)
    torch.testing.assert_close(own.reconstruct(x, codes), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka_batchtopk", "topk"])
def test_an_autoencoder_in_training_is_taken_as_saelens_saves_it_for_use(tmp_path, kind):
    made, config = sae_lens.registry.get_sae_training_class(kind)
    widths = {"matryoshka_widths": [10, K]} if kind.startswith("m") else {}
    training = randomised(made(config(d_in=D, d_sae=K, k=4, rescale_acts_by_decoder_norm=False, **widths)))
    if kind != "topk":
        training.topk_threshold.fill_(0.7)
    training.save_inference_model(tmp_path)
    own, x = from_saelens(training, "mine"), rows()
    codes, _ = check_same(own, sae_lens.SAE.load_from_disk(tmp_path), x)
    assert own.origin.architecture == kind
    torch.testing.assert_close(own.encode(x[:1]).to_dense()[0], codes.to_dense()[0])
    assert training.W_dec.requires_grad


def test_fingerprints_tell_settings_apart(written):
    assert (
        load_autoencoder(written("topk", k=4)[0]).fingerprint != load_autoencoder(written("topk", k=5)[0]).fingerprint
    )
    folder, sae = written("jumprelu")
    own = load_autoencoder(folder)
    assert own.fingerprint == load_autoencoder(folder).fingerprint == from_saelens(sae, "other").fingerprint
    with torch.no_grad():
        sae.threshold[3] += 0.1
    assert from_saelens(sae).fingerprint != own.fingerprint


def test_an_older_saelens_is_named_and_breaks_nothing(written, monkeypatch):
    folder, _ = written("standard")
    monkeypatch.setitem(sys.modules, "sae_lens.registry", None)
    monkeypatch.delitem(sys.modules, "sparsecode_pl.interchange.saelens_sae")
    with pytest.warns(UserWarning, match=r'its version is too old .*: pip install "sae-lens>=6.54"'):
        interchange._register()
    with pytest.raises(ImportError, match=r"which cannot be imported .* install the extra"):
        load_autoencoder(folder)


def test_an_autoencoder_of_saelens_is_measured_beside_a_dictionary(written, tmp_path, quiet_trainer, monkeypatch):
    monkeypatch.setattr(sys.modules["sparsecode_pl.measurement.report"], "draw", lambda *_: None)
    folder, sae = written("topk", normalize_activations="layer_norm")
    data = TensorActivations(rows(400), batch_size=128, batches_per_round=2, seed=0)
    records = measure(
        SparseCodingModule(D, expansion=2, lam=0.5),
        data,
        saes=[folder],
        folder=tmp_path / "runs",
        trainer=lambda module, path: quiet_trainer(max_epochs=1),
    )
    own = records[1]
    assert own["data"] == "sae, own encoder"
    x = data.rows[data.heldout_index]
    with torch.no_grad():
        expected = 1 - (x - sae(x)).square().sum() / (x - x.mean(dim=0)).square().sum()
        assert own["heldout_N0"] == pytest.approx(
            float((sae.encode(x) * sae.W_dec.norm(dim=1) > 0).sum(dim=1).float().mean())
        )
    assert own["heldout_explained_variance"] == pytest.approx(float(expected), abs=1e-5)
