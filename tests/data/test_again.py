import pytest
import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.data import data_again, write_store
from sparsecode_pl.data.activation_store import ActivationStore
from sparsecode_pl.data.again import source_again

SETTINGS = {"d_model": 6, "num_features": 8, "active": 1.5, "num_samples": 40}


@pytest.mark.parametrize("path", ["SparseLinear", "sparsecode_synthetic.SparseLinear"])
def test_data_is_made_again_by_the_name_of_its_plugin(path):
    again = data_again({"class_path": path, "init_args": SETTINGS}, seed=3)
    assert torch.equal(again.rows[:], SparseLinear(**SETTINGS, seed=3).rows[:])


@pytest.mark.parametrize("path", ["os.system", "sparsecode_synthetic.sparse_linear.SparseLinear", None, "Sparse"])
def test_nothing_but_an_installed_plugin_is_made(path):
    with pytest.raises(ValueError, match=r"names no installed data plugin: give the data by --data"):
        data_again({"class_path": path, "init_args": {}})


def test_arguments_that_the_plugin_does_not_have_are_an_error():
    with pytest.raises(ValueError, match="cannot be made again from its settings"):
        data_again({"class_path": "SparseLinear", "init_args": {"colour": "red"}})


def test_a_source_that_is_not_known_is_none(tmp_path):
    assert source_again({}, "3") is None
    assert source_again({"class_path": "SparseLinear", "init_args": SETTINGS}, "3") is None
    write_store(tmp_path / "store", [{"3": torch.rand(5, 2)}], source={"model": "mine"})
    source = ActivationStore(str(tmp_path / "store")).source
    assert source.vocabulary is None
    assert source.rerun is None
    assert source.output_logits(torch.eye(2)) is None
