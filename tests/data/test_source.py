import pickle

import pytest
import torch

from sparsecode_pl.data import GroundTruth, Place, Source, SubsetSource, TensorSource


class Loaded(Source):
    """Counts how often it is loaded."""

    def __init__(self, x):
        self.x, self.loaded = x, 0

    def load(self):
        self.loaded += 1
        return self.x


def test_rows_are_loaded_and_checked_once():
    source = Loaded(torch.ones(3, 2, dtype=torch.float64))
    assert source.rows.dtype == torch.float32
    assert source.rows is source.rows
    assert (source.loaded, source.d_model, source.label) == (1, 2, "Loaded")
    source.release()  # rows that were loaded are kept
    assert source.rows is not None
    assert source.loaded == 1


def test_bad_rows_are_named_by_the_label():
    with pytest.raises(ValueError, match="Loaded: 1 of 4 activations are NaN or infinite"):
        _ = Loaded(torch.tensor([[1.0, 2], [torch.inf, 0]])).rows


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


def test_a_subset_has_the_rows_and_columns_of_its_index():
    x, columns = torch.arange(12.0).reshape(6, 2), {"word": list("abcdef"), "number": torch.arange(6)}
    whole = TensorSource(x, "mine", columns=columns, place=Place("model", "3"), provenance={"by": "hand"})
    part = SubsetSource(whole, torch.tensor([4, 0, 2]))
    assert torch.equal(part.rows[:], x[[4, 0, 2]])
    assert torch.equal(part.rows[torch.tensor([2, 0])], x[[2, 4]])
    assert (len(part.rows), part.rows.shape, part.d_model) == (3, (3, 2), 2)
    assert part.columns["word"] == ["e", "a", "c"]
    assert part.columns["number"].tolist() == [4, 0, 2]
    assert (part.label, part.place, part.provenance) == ("mine", Place("model", "3"), {"by": "hand"})
