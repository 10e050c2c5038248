"""Functions that travel as files."""

import torch

from sparsecode_pl.utilities.parcels import Parcels, open_parcel, remove_parcels


def test_a_function_comes_back_with_its_tensors(tmp_path):
    large, small = torch.rand(600, 512), torch.rand(3)
    transposed = large.T

    with Parcels(tmp_path) as parcels:
        found = open_parcel(parcels.pack(lambda: (large, small, transposed)))()
    for tensor, expected in zip(found, (large, small, transposed), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_a_large_tensor_is_written_once_and_alone(tmp_path):
    rows = torch.rand(4, 600, 512)
    layer = rows[2]

    with Parcels(tmp_path) as parcels:
        paths = [parcels.pack(lambda number=number: (number, layer)) for number in range(5)]
        sizes = sorted(path.stat().st_size for path in paths[0].parent.iterdir())
        found = [open_parcel(path)() for path in paths]
    assert [number for number, _ in found] == [0, 1, 2, 3, 4]
    assert len(sizes) == 6
    assert sizes[-2] < 20_000  # the functions
    assert sizes[-1] < 1.01 * layer.nbytes


def test_what_one_writes_to_a_tensor_no_other_sees(tmp_path):
    large = torch.ones(600, 512)

    with Parcels(tmp_path) as parcels:
        path = parcels.pack(lambda: large)
        open_parcel(path)().zero_()
        assert float(open_parcel(path)().min()) == 1


def test_the_address_of_a_tensor_that_is_gone_tells_nothing(tmp_path):
    with Parcels(tmp_path) as parcels:
        paths = [parcels.pack(torch.full((600, 512), float(number)).sum) for number in range(5)]
        assert [float(open_parcel(path)()) for path in paths] == [600 * 512 * number for number in range(5)]


def test_no_file_is_left_not_even_of_a_killed_process(tmp_path):
    left = tmp_path / ".jobs-old"
    left.mkdir()
    (left / "0").touch()
    remove_parcels(tmp_path)
    with Parcels(tmp_path) as parcels:
        assert parcels.pack(list).is_file()
    assert list(tmp_path.iterdir()) == []
