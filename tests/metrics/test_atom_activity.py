import pytest
import torch

from sparsecode_pl.metrics import AtomActivity


def test_counts_rows_and_finds_dead_atoms(csr):
    metric = AtomActivity(num_atoms=3)
    metric.update(codes=csr(torch.tensor([[0.0, 9.0, 1.0], [0.0, 0.5, 0.0]])))
    metric.update(codes=torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    assert metric.counts.tolist() == [0, 3, 1]
    assert metric.counts.dtype == metric.rows.dtype == torch.int64
    assert metric.compute().tolist() == [0, 3 / 4, 1 / 4]


def test_codes_of_another_dictionary_are_refused():
    with pytest.raises(ValueError, match=r"codes have 4 columns, but num_atoms is 3: .*num_atoms=4"):
        AtomActivity(num_atoms=3).update(codes=torch.eye(4))


def test_no_atoms_are_refused():
    with pytest.raises(ValueError, match="num_atoms is 0: give at least 1"):
        AtomActivity(num_atoms=0)
