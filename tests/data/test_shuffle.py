import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data import generator, shuffled_batches


def blocks(sizes):
    """Rows that are numbered throughout."""
    return iter(torch.arange(sum(sizes)).float()[:, None].split(sizes))


@st.composite
def settings(draw):
    sizes = draw(st.lists(st.integers(0, 30), max_size=12))
    batch_size = draw(st.integers(1, 10))
    return sizes, batch_size, draw(st.integers(batch_size, 40)), draw(st.floats(0.01, 1))


@given(settings(), st.integers(0, 9))
def test_every_row_leaves_once_in_whole_batches_but_for_less_than_a_batch_at_the_end(setting, seed):
    sizes, batch_size, buffer_size, share = setting
    batches = list(shuffled_batches(blocks(sizes), batch_size, buffer_size, share, generator(seed)))
    again = list(shuffled_batches(blocks(sizes), batch_size, buffer_size, share, generator(seed)))
    assert all(map(torch.equal, batches, again))
    assert all(batch.shape == (batch_size, 1) for batch in batches)
    rows = [int(row) for batch in batches for row in batch]
    assert len(batches) == len(again) == sum(sizes) // batch_size
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(sum(sizes)))


@given(settings())
def test_no_row_leaves_before_the_buffer_has_held_it(setting):
    sizes, batch_size, buffer_size, share = setting
    left = 0
    for batch in shuffled_batches(blocks(sizes), batch_size, buffer_size, share, generator(0)):
        assert int(batch.max()) < left + buffer_size  # what has left and what the buffer holds came before
        left += batch_size


@given(settings())
def test_the_stream_is_read_no_further_than_the_buffer_needs(setting):
    _, batch_size, buffer_size, share = setting
    read = []
    endless = (read.append(number) or torch.full((3, 1), float(number)) for number in itertools.count())
    batches = shuffled_batches(endless, batch_size, buffer_size, share, generator(0))
    for count, _ in enumerate(itertools.islice(batches, 20)):
        assert 3 * len(read) < count * batch_size + buffer_size + 3


@pytest.mark.parametrize(("share", "between"), [(0.1, 1), (0.25, 2), (0.5, 5), (1.0, 10)])
def test_the_share_says_how_many_batches_leave_between_two_fillings(share, between):
    read = []
    ones = (read.append(1) or torch.ones(1, 1) for _ in range(1000))
    batches = shuffled_batches(ones, 4, 40, share, generator(0))
    reads = [len(read) for _ in itertools.islice(batches, 30)]
    fillings = [len(list(group)) for _, group in itertools.groupby(reads)]
    assert set(fillings) == {between}


def test_rows_are_mixed_as_far_as_the_buffer_reaches():
    rows = torch.cat(list(shuffled_batches(blocks([10] * 1000), 10, 500, 0.5, generator(0)))).flatten()
    distance = (rows - torch.arange(10_000)).abs()
    assert distance.mean() > 100
    assert (rows.diff() == 1).float().mean() < 0.02


def test_a_small_share_mixes_further_than_a_large_one():
    def late(share):
        rows = torch.cat(list(shuffled_batches(blocks([10] * 1000), 10, 500, share, generator(0)))).flatten()
        return (torch.arange(10_000) - rows).max()

    assert late(1.0) < 500  # a row leaves with the filling that it came in
    assert late(0.1) > 1000
