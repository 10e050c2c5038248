import sys
from importlib.metadata import PackageNotFoundError

import numpy
import torch

from sparsecode_pl.utilities import versions as module
from sparsecode_pl.utilities.versions import versions


def test_they_are_those_of_what_runs():
    found = versions()
    assert found["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert found["numpy"] == numpy.__version__
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found.keys() >= {"sparsecode-pl", "lightning", "torchmetrics"}


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    def version(package):
        if package == "numba":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(module, "version", version)
    found = versions()
    assert "numba" not in found
    assert found["torch"] == "1.0"
