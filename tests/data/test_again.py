import pytest
import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.data import data_again, write_store
from sparsecode_pl.data.activation_store import ActivationStore
from sparsecode_pl.data.again import plugin_again, source_again

SETTINGS = {"d_model": 6, "num_features": 8, "active": 1.5, "num_samples": 40}


@pytest.mark.parametrize("path", ["SparseLinear", "sparsecode_synthetic.SparseLinear"])
def test_data_is_made_again_by_the_name_of_its_plugin(path):
    again = data_again({"class_path": path, "init_args": SETTINGS}, seed=3)
    assert torch.equal(again.rows[:], SparseLinear(**SETTINGS, seed=3).rows[:])


@pytest.mark.parametrize("path", ["os.system", "sparsecode_synthetic.sparse_linear.SparseLinear", None, "Sparse"])
def test_nothing_but_an_installed_plugin_is_made(path):
    with pytest.raises(ValueError, match=r"names no installed data or control: give the data by --data"):
        data_again({"class_path": path, "init_args": {}})


def test_arguments_that_the_plugin_does_not_have_are_an_error():
    with pytest.raises(ValueError, match="cannot be made again from its settings"):
        data_again({"class_path": "SparseLinear", "init_args": {"colour": "red"}})


def test_a_control_is_no_data():
    with pytest.raises(ValueError, match="names a control"):
        data_again({"class_path": "Shuffled"})


def test_plugins_within_settings_are_made_too():
    control = {"class_path": "Shuffled", "init_args": {"seed": 4}}
    rows = {"class_path": "SparseLinear", "init_args": SETTINGS}
    again = plugin_again({"class_path": "ControlOf", "init_args": {"control": control, "data": rows}})
    assert again.label == "Shuffled"
    assert again.rows.shape == (40, 6)


def test_no_code_of_a_model_is_run_because_a_file_says_so(monkeypatch):
    taken = {}

    class Taker(SparseLinear):
        def __init__(self, trust_remote_code=True, **kwargs):
            taken["trust_remote_code"] = trust_remote_code
            super().__init__(**SETTINGS)

    monkeypatch.setattr("sparsecode_pl.utilities.entry_points.load", lambda *_: Taker)
    data_again({"class_path": "SparseLinear", "init_args": {"trust_remote_code": True}})
    assert taken == {"trust_remote_code": False}


def test_a_source_that_is_not_known_is_none(tmp_path):
    assert source_again({}, "3") is None
    with pytest.warns(UserWarning, match="tokens stay numbers"):
        assert source_again({"class_path": "SparseLinear", "init_args": SETTINGS}, "3") is None
    write_store(tmp_path / "store", [{"3": torch.rand(5, 2)}], source={"model": "mine"})
    source = ActivationStore(str(tmp_path / "store")).source
    assert source.vocabulary is None
    assert source.rerun is None
    assert source.output_logits(torch.eye(2)) is None
