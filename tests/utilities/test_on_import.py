import importlib
import importlib.util
import sys

import pytest

from sparsecode_pl.utilities.on_import import when_imported


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that has not been imported, and what is on the meta path besides."""
    (tmp_path / "only_for_this_test.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield "only_for_this_test"
    sys.modules.pop("only_for_this_test", None)
    sys.meta_path[:] = before


def test_the_action_follows_the_import_once(package):
    seen = []
    before = list(sys.meta_path)
    when_imported(package, lambda: seen.append(sys.modules[package].value))
    assert seen == []
    assert importlib.util.find_spec(package) is not None  # looking is not importing
    assert seen == []
    importlib.import_module(package)
    assert seen == [3]
    assert sys.meta_path == before
    importlib.reload(sys.modules[package])
    assert seen == [3]


def test_a_package_that_is_there_is_acted_on_at_once(package):
    importlib.import_module(package)
    seen = []
    when_imported(package, lambda: seen.append(1))
    assert seen == [1]


def test_a_package_that_is_not_installed_stays_so(package):
    when_imported("no_such_package_at_all", lambda: pytest.fail("it was not imported"))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package_at_all")
