"""Where activations come from.

`ActivationDataModule` is the contract every plugin extends; `SampledActivations` and `ControlActivations` are the two
common special cases; `TensorActivations` wraps a tensor you already have. `registry` finds the installed plugins.
"""

from sparsecode_pl.data.base import ActivationDataModule, GroundTruth, Statistics
from sparsecode_pl.data.control import ControlActivations
from sparsecode_pl.data.registry import available_plugins, import_plugins, load_plugin
from sparsecode_pl.data.sampled import SampledActivations
from sparsecode_pl.data.seeding import generator
from sparsecode_pl.data.tensor import TensorActivations

__all__ = [
    "ActivationDataModule",
    "ControlActivations",
    "GroundTruth",
    "SampledActivations",
    "Statistics",
    "TensorActivations",
    "available_plugins",
    "generator",
    "import_plugins",
    "load_plugin",
]
