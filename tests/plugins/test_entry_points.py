import pytest

from sparsecode_pl.data import ActivationDataModule, available_plugins, load_plugin

OURS = ["Gaussian", "HeavyTailed", "MatchedGaussian", "Rademacher", "Shuffled", "SparseLinear", "TokenEmbeddings"]


@pytest.mark.parametrize("name", OURS)
def test_our_plugins_are_installed_with_a_line_each(name):
    assert name in available_plugins()
    plugin = load_plugin(name)
    assert issubclass(plugin, ActivationDataModule)
    assert plugin.__name__ == name
    assert len((plugin.__doc__ or "").splitlines()[0]) > 20
