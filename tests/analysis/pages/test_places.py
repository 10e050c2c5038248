import pytest

from sparsecode_pl.analysis.pages.places import Places


@pytest.mark.parametrize("num_atoms", [1, 3, 4096, 4097, 12_345])
def test_each_atom_is_in_one_file(num_atoms):
    places = Places(num_atoms)
    assert [index for file in places.files() for index in file] == list(range(num_atoms))
    for file in places.files():
        assert {places.file(index) for index in file} == {places.file(file[0])}
    names = [places.file(file[0]) for file in places.files()]
    assert names == sorted(set(names))


def test_many_atoms_share_files():
    assert len(Places(4096).files()) == 4096
    assert len(Places(65_536).files()) == 1024
    assert Places(65_536).link(65_535) == "65472.html#a65535"
