from importlib.metadata import EntryPoint

import pytest

from sparsecode_pl.data import ActivationDataModule, TensorActivations
from sparsecode_pl.utilities import entry_points

GROUP = "some.group"
ENTRIES = {
    "TensorActivations": "sparsecode_pl.data:TensorActivations",
    "Sampled": "sparsecode_pl.data:SampledActivations",
    "NoDataModule": "collections:OrderedDict",
    "Broken": "no_such_package_anywhere:Thing",
}


@pytest.fixture(autouse=True)
def _plugins(monkeypatch):
    entries = [EntryPoint(name, value, GROUP) for name, value in ENTRIES.items()]
    monkeypatch.setattr(entry_points, "entry_points", lambda *, group: [e for e in entries if e.group == group])


def test_names_are_listed_without_importing():
    assert list(entry_points.available(GROUP)) == sorted(ENTRIES)
    assert entry_points.available("another.group") == {}


def test_a_plugin_is_loaded_by_name():
    assert entry_points.load(GROUP, "TensorActivations", ActivationDataModule) is TensorActivations


@pytest.mark.parametrize("typo", ["TensorActivation", "tensoractivations", "TENSORACTIVATION"])
def test_a_typo_gets_the_nearest_name(typo):
    with pytest.raises(ValueError, match=f"no plugin is called '{typo}': did you mean TensorActivations"):
        entry_points.load(GROUP, typo, ActivationDataModule)


def test_without_a_near_name_all_are_listed():
    with pytest.raises(ValueError, match="'qqq': Installed: Broken, NoDataModule, Sampled, TensorActivations"):
        entry_points.load(GROUP, "qqq", ActivationDataModule)


def test_what_is_of_another_class_is_refused():
    with pytest.raises(TypeError, match=r"plugin NoDataModule \(collections:OrderedDict\) is .*ActivationDataModule"):
        entry_points.load(GROUP, "NoDataModule", ActivationDataModule)
    assert entry_points.load(GROUP, "NoDataModule", dict).__name__ == "OrderedDict"


def test_one_that_fails_leaves_the_others():
    with pytest.warns(UserWarning, match="plugin (Broken|NoDataModule) is left out") as warned:
        loaded = entry_points.load_all(GROUP, ActivationDataModule)
    assert sorted(loaded) == ["Sampled", "TensorActivations"]
    assert len([w for w in warned if "is left out" in str(w.message)]) == 2
