import pytest

from sparsecode_pl.data import ActivationDataModule, Control, available_plugins, load_plugin
from sparsecode_pl.data.registry import plugin_kind

DATA = ["ActivationStore", "ControlOf", "RepeatedNoise", "SparseLinear", "TokenEmbeddings", "TransformerActivations"]
CONTROLS = ["DataRows", "MatchedGaussian", "RandomDictionary", "RandomModel", "RepeatedGaussian", "Shuffled"]
BOTH = ["Gaussian", "HeavyTailed", "Rademacher"]


@pytest.mark.parametrize("name", [*DATA, *CONTROLS, *BOTH])
def test_our_plugins_are_installed_with_a_sentence_each(name):
    assert name in available_plugins()
    plugin = load_plugin(name)
    assert issubclass(plugin, Control)
    assert issubclass(plugin, ActivationDataModule) is (name not in CONTROLS)
    assert plugin.__name__ == name
    sentence = (plugin.__doc__ or "").splitlines()[0]
    assert len(sentence) > 20
    assert sentence.endswith(".")


@pytest.mark.parametrize(("kind", "names"), [("data", DATA), ("control", CONTROLS), ("data, control", BOTH)])
def test_each_has_its_kind(kind, names):
    assert [plugin_kind(name) for name in names] == [kind] * len(names)


@pytest.mark.parametrize("name", [*CONTROLS, *BOTH])
def test_each_control_says_what_it_rules_out(name):
    sentence = load_plugin(name).rules_out
    assert sentence.startswith("Rules out that ")
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", DATA)
def test_data_rules_nothing_out(name):
    assert load_plugin(name).rules_out == ""
