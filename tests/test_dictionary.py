import json

import pytest
import torch

from sparsecode_pl.coding import GreedyCoder, greedy_encode
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


def test_saves_and_loads_without_loss_and_without_pickle(dictionary, tmp_path):
    dictionary.save(tmp_path / "d")
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["dictionary.json", "dictionary.safetensors"]
    loaded = Dictionary.load(tmp_path / "d")
    for name, tensor in dictionary.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_loading_refuses_what_is_no_dictionary(dictionary, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no dictionary"):
        Dictionary.load(tmp_path)
    dictionary.save(tmp_path)
    facts = json.loads((tmp_path / "dictionary.json").read_text())
    (tmp_path / "dictionary.json").write_text(json.dumps(facts | {"num_atoms": 13}))
    with pytest.raises(ValueError, match=r"atoms \(12, 5\) do not fit"):
        Dictionary.load(tmp_path)
    (tmp_path / "dictionary.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(ValueError, match="format 99 is newer"):
        Dictionary.load(tmp_path)


@pytest.mark.parametrize(
    ("atoms", "options", "message"),
    [
        (2 * torch.eye(3), {}, "3 of 3 rows have an L2 norm that is not 1"),
        (torch.eye(3) * torch.nan, {}, "norm nan"),
        (torch.eye(3), {"centre": torch.zeros(2)}, r"centre has shape \(2,\), but atoms have width 3"),
        (torch.eye(3), {"scale": 0.0}, "scale is 0.0: give a number above 0"),
    ],
)
def test_bad_input_is_named(atoms, options, message):
    with pytest.raises(ValueError, match=message):
        Dictionary(atoms, **options)
