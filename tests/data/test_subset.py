import torch

from sparsecode_pl.data import Place, SubsetSource, TensorSource


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
