import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data.loader import RowBatches, TrainingBatches, batch_loader


@given(n=st.integers(0, 60), batch_size=st.integers(1, 40), world_size=st.integers(1, 5))
def test_rows_once_each_in_equally_many_batches(n, batch_size, world_size):
    x = torch.arange(60.0)[:, None]
    index = torch.randperm(60, generator=torch.Generator().manual_seed(n))[:n]
    datasets = [RowBatches(x, index, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({dataset.num_batches for dataset in datasets}) == 1
    batches = [dataset[0, i] for dataset in datasets for i in range(dataset.num_batches)]
    assert sorted(torch.cat([part for part, _ in batches]).tolist()) == sorted(index.tolist())
    assert all(torch.equal(x[part], rows) for part, rows in batches)
    most = -(-batch_size // world_size)
    assert max(len(part) for part, _ in batches) <= most


def test_training_batches_are_asked_for_by_epoch_and_index():
    loader = batch_loader(TrainingBatches(lambda epoch, index: torch.tensor([epoch, index, 7])), 3)
    loader.sampler.set_epoch(5)
    assert torch.stack(list(loader)).tolist() == [[5, 0, 7], [5, 1, 7], [5, 2, 7]]
    assert len(loader) == 3
