import torch

from sparsecode_pl.metrics import NonZeroEntries
from sparsecode_pl.metrics.functional import nonzero_entries


def test_counts_entries_whatever_their_size():
    assert nonzero_entries(torch.tensor([[1e-30, 1e30, 0.0], [0.0, 0.0, 0.0]])) == 1


def test_all_zero_codes_have_none():
    assert nonzero_entries(torch.zeros(3, 4)) == 0


def test_counts_beyond_float32():
    metric = NonZeroEntries()
    metric.nonzeros, metric.rows = torch.tensor(2**30), torch.tensor(2**30)
    metric.update(codes=torch.tensor([[1.0, 1.0, 1.0]]))
    assert metric.compute() == (2**30 + 3) / (2**30 + 1)
