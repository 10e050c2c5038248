import pytest
import torch

from sparsecode_pl.data import Source


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
