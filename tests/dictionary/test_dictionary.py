import math

import pytest
import torch

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import GreedyCoder, LassoCoder, MatchingPursuitCoder, greedy_encode
from sparsecode_pl.dictionary import Dictionary


@pytest.fixture
def dictionary():
    torch.manual_seed(0)
    twin = Dictionary.random(12, 5)
    return Dictionary(twin.atoms, centre=torch.arange(5.0), scale=2.0)


def test_random_atoms_are_uniform_unit_rows():
    atoms = Dictionary.random(4000, 3, torch.Generator().manual_seed(0)).atoms
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(4000))
    assert atoms.mean(0).abs().max() < 0.05
    torch.testing.assert_close(atoms.T @ atoms / 4000, torch.eye(3) / 3, atol=0.03, rtol=0)


def test_atoms_from_data_are_the_directions_of_samples(dictionary):
    x = torch.randn(12, 5) * 3 + 1
    dictionary.start_from(x, torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(x - torch.arange(5.0), dim=1)
    cosines = dictionary.atoms @ directions.T
    assert torch.allclose(cosines.max(1).values, torch.ones(12), atol=1e-5)
    assert torch.equal(cosines.argmax(1), torch.arange(12))


def test_samples_that_equal_the_centre_become_random_directions(dictionary):
    x = torch.arange(5.0).repeat(12, 1)
    dictionary.start_from(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(dictionary.atoms.norm(dim=1), torch.ones(12))
    assert len(dictionary.atoms.unique(dim=0)) == 12


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e18, 1e30])
def test_atoms_from_data_at_any_scale(scale):
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    dictionary = Dictionary.random(12, 5)
    dictionary.start_from(scale * x)
    torch.testing.assert_close(dictionary.atoms.detach(), torch.nn.functional.normalize(x, dim=1))


def test_where_samples_repeat_others_take_their_places(dictionary):
    rows = torch.randn(14, 5, generator=torch.Generator().manual_seed(1)) + torch.arange(5.0)
    drawn = []

    def more(num, generator):
        drawn.append(num)
        return rows[torch.randint(14, (num,), generator=generator)]

    x = rows[[0, 1, 0, 2, 3, 4, 5, 6, 7, 7, 7, 8]]
    dictionary.start_from(x, torch.Generator().manual_seed(0), more)
    assert drawn[0] == 3
    atoms = dictionary.atoms.detach()
    assert len(atoms.unique(dim=0)) == 12
    centred = torch.nn.functional.normalize((rows - torch.arange(5.0)), dim=1)
    nearest = (atoms @ centred.T).max(dim=1)
    assert (nearest.values > 1 - 1e-6).all()  # no direction but those of samples
    assert set(nearest.indices.tolist()) >= set(range(9))


@pytest.mark.parametrize("more", [None, lambda num, generator: torch.ones(num, 5)])
def test_where_there_are_no_other_samples_directions_are_random(dictionary, more):
    dictionary.start_from(torch.ones(12, 5), torch.Generator().manual_seed(0), more)
    torch.testing.assert_close(dictionary.atoms.norm(dim=1), torch.ones(12))
    assert len(dictionary.atoms.unique(dim=0)) == 12


def test_encode_centres_and_scales_and_decode_undoes_it(dictionary):
    x = torch.randn(30, 5) + torch.arange(5.0)
    codes = dictionary.encode(x, lam=0.01)
    expected = greedy_encode((x - torch.arange(5.0)) / 2, dictionary.atoms, 0.01)
    assert torch.equal(codes.to_dense(), expected.to_dense())
    rebuilt = dictionary.decode(codes)
    torch.testing.assert_close(rebuilt, 2 * (codes.to_dense() @ dictionary.atoms) + torch.arange(5.0))
    one = dictionary.encode(x, 0.01, GreedyCoder(max_atoms=1))
    assert one.crow_indices().diff().max() == 1


def test_normalise_makes_rows_unit_again(dictionary):
    with torch.no_grad():
        dictionary.atoms.mul_(3)
    dictionary.normalise()
    torch.testing.assert_close(dictionary.atoms.norm(dim=1), torch.ones(12))


@pytest.mark.parametrize(
    ("atoms", "options", "message"),
    [
        (2 * torch.eye(3), {}, "3 of 3 rows have an L2 norm that is not 1"),
        (torch.eye(3) * torch.nan, {}, "norm nan"),
        (torch.eye(3), {"centre": torch.zeros(2)}, r"centre has shape \(2,\), but atoms have width 3"),
        (torch.eye(3), {"scale": 0.0}, "scale is 0.0: give a finite number above 0"),
    ],
)
def test_bad_input_is_named(atoms, options, message):
    with pytest.raises(ValueError, match=message):
        Dictionary(atoms, **options)


def test_it_is_a_codec_and_so_is_the_bound_one(dictionary):
    for codec in (dictionary, dictionary.bind()):
        assert isinstance(codec, Codec)
        assert (codec.num_atoms, codec.d_model) == (12, 5)


def test_without_a_penalty_there_must_be_one_at_each_call(dictionary):
    x = torch.randn(3, 5)
    assert math.isnan(dictionary.lam)
    with pytest.raises(ValueError, match="lam is missing, and the dictionary has no penalty of its own"):
        dictionary.encode(x)
    dictionary.lam = 0.3
    assert torch.equal(dictionary.encode(x).to_dense(), dictionary.encode(x, lam=0.3).to_dense())
    assert not torch.equal(dictionary.encode(x).to_dense(), dictionary.encode(x, lam=0.1).to_dense())
    with pytest.raises(ValueError, match="lam is -1"):
        dictionary.lam = -1


def test_the_bound_dictionary_gives_the_same_codes(dictionary):
    x = torch.randn(200, 5) + 3
    dictionary.lam = 0.1
    bound = dictionary.bind()
    for lam in (None, 0.5):
        expected = dictionary.encode(x, lam)
        torch.testing.assert_close(bound.encode(x, lam).to_dense(), expected.to_dense())
        torch.testing.assert_close(bound.decode(expected), dictionary.decode(expected))
    exact = dictionary.bind(LassoCoder())
    torch.testing.assert_close(exact.encode(x).to_dense(), dictionary.encode(x, coder=LassoCoder()).to_dense())


def test_the_coder_of_the_dictionary_is_the_one_used():
    dictionary = Dictionary(torch.eye(4), lam=0.1, coder=MatchingPursuitCoder(k=2))
    codes = dictionary.encode(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    assert codes.to_dense().tolist() == [[4, 3, 0, 0]]


def test_rows_of_another_dtype_are_converted(dictionary):
    x = torch.randn(30, 5)
    expected = dictionary.encode(x, lam=0.1).to_dense()
    assert torch.equal(dictionary.encode(x.double(), lam=0.1).to_dense(), expected)
    assert dictionary.encode(x.bfloat16(), lam=0.1).dtype == torch.float32


def test_the_penalty_is_part_of_the_state(dictionary):
    dictionary.lam = 0.25
    twin = Dictionary.random(12, 5)
    twin.load_state_dict(dictionary.state_dict())
    assert twin.lam == 0.25
