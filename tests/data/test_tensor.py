import pickle

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
