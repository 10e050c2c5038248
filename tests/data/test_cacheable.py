import pytest
import torch

from sparsecode_pl.data import TensorActivations, fill_store


def test_only_data_that_keeps_a_store_can_fill_one(tmp_path):
    with pytest.raises(ValueError, match="TensorActivations keeps no store: give data that does, such as Transformer"):
        fill_store(TensorActivations(torch.eye(4)))

    class Kept(TensorActivations):
        def cache(self):
            return tmp_path

    assert fill_store(Kept(torch.eye(4))) == tmp_path
