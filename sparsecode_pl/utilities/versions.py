"""Versions of the packages that results depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("sparsecode-pl", "torch", "lightning", "torchmetrics", "numba", "numpy", "transformers")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on. Packages not installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
