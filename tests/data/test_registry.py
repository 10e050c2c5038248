from importlib.metadata import EntryPoint

import pytest

from sparsecode_pl.data import TensorActivations, available_plugins, import_plugins, load_plugin, registry

ENTRIES = {
    "TensorActivations": "sparsecode_pl.data:TensorActivations",
    "Sampled": "sparsecode_pl.data:SampledActivations",
    "NoDataModule": "collections:OrderedDict",
    "Broken": "no_such_package_anywhere:Thing",
}


@pytest.fixture
def _plugins(monkeypatch):
    entries = [EntryPoint(name, value, registry.GROUP) for name, value in ENTRIES.items()]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [e for e in entries if e.group == group])


@pytest.mark.usefixtures("_plugins")
def test_names_are_listed_without_importing():
    assert list(available_plugins()) == sorted(ENTRIES)


@pytest.mark.usefixtures("_plugins")
def test_a_plugin_is_loaded_by_name():
    assert load_plugin("TensorActivations") is TensorActivations


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize("typo", ["TensorActivation", "tensoractivations", "TENSORACTIVATION"])
def test_a_typo_gets_the_nearest_name(typo):
    with pytest.raises(ValueError, match=f"no plugin is called '{typo}': did you mean TensorActivations"):
        load_plugin(typo)


@pytest.mark.usefixtures("_plugins")
def test_without_a_near_name_all_are_listed():
    with pytest.raises(ValueError, match="'qqq': Installed: Broken, NoDataModule, Sampled, TensorActivations"):
        load_plugin("qqq")


@pytest.mark.usefixtures("_plugins")
def test_what_is_no_data_module_is_refused():
    with pytest.raises(TypeError, match=r"plugin NoDataModule \(collections:OrderedDict\) is .*ActivationDataModule"):
        load_plugin("NoDataModule")


@pytest.mark.usefixtures("_plugins")
def test_one_that_fails_leaves_the_others():
    with pytest.warns(UserWarning, match="plugin (Broken|NoDataModule) is left out") as warned:
        loaded = import_plugins()
    assert sorted(loaded) == ["Sampled", "TensorActivations"]
    assert len([w for w in warned if "is left out" in str(w.message)]) == 2
