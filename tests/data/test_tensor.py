import pickle

import numpy as np
import pytest
import torch

from sparsecode_pl.data import GroundTruth, Place, TensorActivations, TensorSource


def test_a_tensor_says_what_it_was_given():
    truth = GroundTruth(torch.eye(2), torch.eye(3, 2).to_sparse_csr(), 0.5)
    source = TensorSource(
        torch.ones(3, 2),
        "mine",
        columns={"word": ["a", "b", "c"]},
        place=Place("model", "3"),
        provenance={"by": "hand"},
        ground_truth=truth,
    )
    there = pickle.loads(pickle.dumps(source))  # noqa: S301
    for one in (source, there):
        assert (one.label, one.columns, one.place) == ("mine", {"word": ["a", "b", "c"]}, Place("model", "3"))
        assert one.provenance == {"by": "hand"}
        assert one.ground_truth.half_active == 0.5
        assert torch.equal(one.rows, torch.ones(3, 2))


def test_a_tensor_is_a_data_module_with_a_name():
    data = TensorActivations(torch.ones(3, 2), name="mine")
    assert (data.label, data.source.label, data.d_model) == ("mine", "mine", 2)


def test_a_tensor_with_columns_is_held_out_by_one():
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    speaker = np.arange(60) % 12
    for given in (speaker, speaker.tolist(), speaker.astype(str), torch.from_numpy(speaker)):
        data = TensorActivations(x, columns={"speaker": given}, heldout_by="speaker", val_split=0.25)
        assert len(data.heldout_index) == 15
        held = set(speaker[data.heldout_index].tolist())
        assert len(held) == 3
        assert held.isdisjoint(speaker[data.train_index].tolist())
    with pytest.raises(ValueError, match="mine: column 'speaker' has 60 entries, but there are 59 rows"):
        TensorActivations(x[1:], "mine", columns={"speaker": speaker})
