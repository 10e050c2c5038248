from importlib.metadata import EntryPoint

import pytest

from sparsecode_pl.data import Control, TensorActivations, available_plugins, import_plugins, load_plugin
from sparsecode_pl.data.registry import CONTROL_GROUP, DATA_GROUP, plugin_kind, unknown_plugin
from sparsecode_pl.utilities import entry_points

ENTRIES = [
    ("TensorActivations", "sparsecode_pl.data:TensorActivations", DATA_GROUP),
    ("TensorActivations", "sparsecode_pl.data:TensorActivations", CONTROL_GROUP),
    ("Same", "sparsecode_pl.data:Control", CONTROL_GROUP),
    ("NoControl", "collections:OrderedDict", CONTROL_GROUP),
    ("SameData", "sparsecode_pl.data:Control", DATA_GROUP),
    ("Broken", "no_such_package_anywhere:Thing", DATA_GROUP),
]


@pytest.fixture(autouse=True)
def _plugins(monkeypatch):
    entries = [EntryPoint(*entry) for entry in ENTRIES]
    monkeypatch.setattr(entry_points, "entry_points", lambda *, group: [e for e in entries if e.group == group])


def test_data_and_controls_are_listed_together():
    assert list(available_plugins()) == sorted({name for name, _, _ in ENTRIES})


def test_the_kind_is_that_of_the_groups():
    assert [plugin_kind(name) for name in ("TensorActivations", "Same", "Broken")] == [
        "data, control",
        "control",
        "data",
    ]


def test_data_and_controls_are_loaded_by_name():
    assert load_plugin("TensorActivations") is TensorActivations
    assert load_plugin("Same") is Control


def test_each_group_has_a_base_class():
    with pytest.raises(TypeError, match=r"plugin SameData .* make it a subclass of ActivationDataModule"):
        load_plugin("SameData")
    with pytest.raises(TypeError, match=r"plugin NoControl .* make it a subclass of Control"):
        load_plugin("NoControl")


def test_those_that_fail_leave_the_others():
    with pytest.warns(UserWarning, match="is left out") as warned:
        assert list(import_plugins()) == ["Same", "TensorActivations"]
    assert len(warned) == 3


def test_a_name_that_is_not_known_gets_the_cure():
    with pytest.raises(ValueError, match="no plugin is called 'sam': did you mean Same"):
        load_plugin("sam")
    assert unknown_plugin("HookedTransformer") == "HookedTransformer is now TransformerActivations: give the new name"
    assert "Same is a control: list it under controls of `sparsecode measure`" in unknown_plugin("Same")
