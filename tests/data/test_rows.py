import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data import Source, TensorActivations, row_blocks


class OnDisk:
    """Rows that can only be asked for, as those of a memory-mapped store; counts the most asked for at a time."""

    def __init__(self, x):
        self._x, self.shape, self.most = x, tuple(x.shape), 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        rows = self._x[index]
        self.most = max(self.most, len(rows))
        return rows.clone()


@given(n=st.integers(1, 50), size=st.integers(1, 60), chosen=st.booleans())
def test_blocks_joined_are_the_rows_asked_for_in_order(n, size, chosen):
    x = torch.arange(2 * n).reshape(n, 2).float()
    index = torch.randperm(n, generator=torch.Generator().manual_seed(n))[: n // 2 + 1] if chosen else None
    rows = OnDisk(x)
    blocks = list(row_blocks(rows, index, size))
    assert torch.equal(torch.cat(blocks), x if index is None else x[index])
    assert rows.most == max(map(len, blocks)) <= size


@pytest.fixture
def both():
    """The same 20,000 rows in memory and on disk."""
    x = 5 + torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))

    class Stored(Source):
        def load(self):
            return OnDisk(x)

        @property
        def label(self):
            return "activations"

    memory = TensorActivations(x, val_split=0.05)
    return memory, memory.over(Stored())


def test_rows_that_are_not_in_memory_give_the_same_data(both):
    memory, disk = both
    assert torch.equal(disk.statistics.mean, memory.statistics.mean)
    assert disk.statistics.mean_norm == memory.statistics.mean_norm
    assert torch.equal(disk.heldout_index, memory.heldout_index)
    assert torch.equal(disk.train_batch(1, 30), memory.train_batch(1, 30))
    draws = [data.sample(50, torch.Generator().manual_seed(0)) for data in both]
    assert torch.equal(*draws)
    for one, two in zip(disk.val_dataloader(), memory.val_dataloader(), strict=True):
        assert torch.equal(torch.cat([x for _, x in one]), torch.cat([x for _, x in two]))


def test_statistics_never_hold_more_than_a_block(both):
    _, disk = both
    _ = disk.statistics
    assert 0 < disk.rows.most <= 16384 < len(disk.train_index)


def test_values_that_are_not_finite_are_found_where_rows_are_not_in_memory(both):
    _, disk = both
    disk.rows._x[disk.train_index[7], 1] = torch.inf
    with pytest.raises(ValueError, match="activations: some activations are NaN or infinite: find out what made them"):
        disk.setup()
