import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data import Rows, Store, distinct_rows, write_store


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_copies_of_a_row_are_one_class_numbered_by_first_appearance(which):
    table = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    numbers = {value: number for number, value in enumerate(dict.fromkeys(which))}
    assert distinct_rows(table[which]).tolist() == [numbers[value] for value in which]


def test_rows_that_differ_in_the_last_bit_are_two_classes():
    row = torch.ones(4)
    other = row.clone()
    other[3] = torch.nextafter(other[3], torch.tensor(2.0))
    assert distinct_rows(torch.stack([row, other])).tolist() == [0, 1]


def test_zeros_of_either_sign_are_equal():
    assert distinct_rows(torch.tensor([[0.0, 1.0], [-0.0, 1.0]])).tolist() == [0, 0]


def test_a_row_that_ends_in_zeros_is_another_one():
    assert distinct_rows(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist() == [0, 1, 2]


def test_classes_span_blocks_of_rows():
    n = 16384 + 7
    rows = torch.arange(n).remainder(100).float()[:, None]
    assert torch.equal(distinct_rows(rows), torch.arange(n).remainder(100))


def test_views_have_the_classes_of_the_rows_that_they_show():
    x = torch.randint(3, (40, 6), generator=torch.Generator().manual_seed(1)).float()
    for view in (x.T, x[:, ::2], x[::3], x[:1].expand(5, 6), x.requires_grad_()):
        assert torch.equal(
            distinct_rows(view), distinct_rows(view.detach().clone(memory_format=torch.contiguous_format))
        )


def test_rows_on_disk_have_the_classes_of_the_same_rows_in_memory(tmp_path):
    rows = torch.randint(3, (200, 2), generator=torch.Generator().manual_seed(1)).float()
    stored: Rows = Store(write_store(tmp_path / "store", [rows])).rows("activations")
    assert torch.equal(distinct_rows(stored), distinct_rows(rows))
