import pytest
import torch
from torch.nn.functional import normalize

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import GreedyCoder, reconstruct
from sparsecode_pl.interchange import Autoencoder, Origin
from sparsecode_pl.interchange import autoencoder as module

M, D = 20, 8


def made(normalisation="none", signed=False, **kwargs):
    random = torch.Generator().manual_seed(0)
    weight, decoder, bias = (torch.randn(shape, generator=random) for shape in ((M, D), (M, D), (D,)))

    def encoder(x):
        before = (x - bias) @ weight.T
        return before * (before.abs() > 2) if signed else (before - 1).relu()

    return Autoencoder(encoder, decoder, bias, normalisation, signed=signed, **kwargs)


def rows(num=30):
    return torch.randn(num, D, generator=torch.Generator().manual_seed(1))


def test_both_are_codecs():
    assert isinstance(made(), Codec)
    assert isinstance(made().with_coder(GreedyCoder()), Codec)


def test_signed_features_are_two_atoms_each():
    own, x = made(signed=True), rows()
    codes = own.encode(x)
    assert codes.shape == (30, 2 * M)
    assert (codes.values() > 0).all()
    expected = own.encoder(x) @ (own.atoms[:M] * own.norms[:, None]) + own.bias
    torch.testing.assert_close(own.reconstruct(x, codes), expected)
    unsigned = Autoencoder(own.encoder, own.atoms[:M], own.bias, origin=Origin("mine", "odd"))
    with pytest.raises(ValueError, match="the odd encoder gives negative activations, and codes are >= 0"):
        unsigned.encode(x)


def test_rows_are_encoded_a_part_at_a_time(monkeypatch):
    own, x = made(), rows(101)
    whole = own.encode(x)
    sizes = []
    encoder = own.encoder
    own.encoder = lambda part: sizes.append(len(part)) or encoder(part)
    monkeypatch.setattr(module, "_MEMORY", 4 * M * 10)
    codes = own.encode(x)
    assert max(sizes) == 10
    for part in ("crow_indices", "col_indices"):
        assert torch.equal(getattr(codes, part)(), getattr(whole, part)())
    torch.testing.assert_close(codes.values(), whole.values())


def test_the_centre_changes_what_is_standardised_and_nothing_else():
    own, x = made("layer_norm"), rows()
    codes, before = own.encode(x), own.residual(x, own.encode(x))
    own.centre = x.mean(dim=0)
    torch.testing.assert_close(own.standardise(x).mean(dim=0), torch.zeros(D), atol=1e-6, rtol=0)
    assert torch.equal(own.encode(x).to_dense(), codes.to_dense())
    assert torch.equal(own.residual(x, codes), before)


def test_greedy_codes_on_the_decoder_of_a_dictionary_without_offset_are_its_own():
    random = torch.Generator().manual_seed(0)
    atoms = normalize(torch.randn(M, D, generator=random), dim=1)
    codec = Autoencoder(lambda x: x, atoms, torch.zeros(D)).with_coder(GreedyCoder())
    x = rows()
    codes = codec.encode(x, 0.3)
    assert torch.equal(codes.to_dense(), GreedyCoder()(x, codec.atoms, 0.3).to_dense())
    torch.testing.assert_close(codec.reconstruct(x, codes), reconstruct(codes, codec.atoms))


def test_without_a_penalty_there_is_an_error_that_says_how_to_set_it():
    own = made()
    with pytest.raises(ValueError, match=r"lam is missing, .* or call adapt_penalty"):
        own.with_coder(GreedyCoder()).encode(rows())
    with pytest.raises(ValueError, match="the own codes of all rows are zero"):
        Autoencoder(lambda x: 0 * x, torch.eye(D), torch.zeros(D)).adapt_penalty(rows())
    with pytest.raises(ValueError, match="lam is -1"):
        own.lam = -1.0


@pytest.mark.parametrize("given", [torch.zeros(3, D + 1), torch.zeros(D)])
def test_rows_of_another_width_are_refused(given):
    with pytest.raises(ValueError, match="but the autoencoder has width 8"):
        made().encode(given)


def test_tensors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"decoder has shape \(4, 3\) and bias \(4,\)"):
        Autoencoder(lambda x: x, torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(ValueError, match="decoder has values that are NaN or infinite"):
        Autoencoder(lambda x: x, torch.full((4, 3), torch.inf), torch.zeros(3))
    broken = Autoencoder(lambda x: x / 0, torch.eye(3), torch.zeros(3), origin=Origin("mine"))
    with pytest.raises(ValueError, match="the encoder of mine gives values that are not finite"):
        broken.encode(torch.ones(1, 3))


def test_a_row_of_zeros_does_not_hide_that_another_is_not_finite():
    x = torch.ones(2, D)
    x[1] = 0

    def encoder(rows):
        return rows / rows.norm(dim=1, keepdim=True)

    own = Autoencoder(encoder, torch.eye(D), torch.zeros(D), "constant_norm_rescale", origin=Origin("mine"))
    assert own.encode(x).crow_indices().tolist() == [0, D, D]
    own.encoder = lambda rows: encoder(rows).masked_fill(torch.arange(D) == 3, torch.nan)
    with pytest.raises(ValueError, match="the encoder of mine gives values that are not finite"):
        own.encode(x)


def test_a_fingerprint_is_of_all_that_changes_codes_or_reconstruction():
    def make(settings=None, weight=1.0, bias=0.0, norm=1.0, **kwargs):
        encoder = torch.nn.Linear(D, D, bias=False)
        torch.nn.init.constant_(encoder.weight, weight)
        made = Autoencoder(encoder, norm * torch.eye(D), torch.full((D,), bias), settings=settings, **kwargs)
        return made.fingerprint

    same = make({"k": 3, "kind": "topk"})
    assert len(same) == 16
    assert same == make({"kind": "topk", "k": 3}, origin=Origin("elsewhere"))
    others = [make(), make({"k": 4}), make(weight=2.0), make(bias=1.0), make(norm=2.0), make(signed=True)]
    others += [make(normalisation="layer_norm"), make({"threshold": 0.1})]
    assert len({same, *others}) == 9
    own = made()
    before = own.fingerprint
    own.lam, own.centre = 0.3, torch.ones(D)
    assert own.to("cpu").fingerprint == before
