"""Where activations come from.

`ActivationDataModule` is the contract every plugin extends; `SampledActivations` and `ControlActivations` are the two
common special cases; `TensorActivations` wraps a tensor you already have; `store` keeps activations on disk. `registry`
finds the installed plugins.
"""

from sparsecode_pl.data.activation_store import ActivationStore
from sparsecode_pl.data.base import ActivationDataModule, GroundTruth, Place, Statistics
from sparsecode_pl.data.control import Control, ControlActivations
from sparsecode_pl.data.registry import available_plugins, import_plugins, load_plugin
from sparsecode_pl.data.rows import Rows, row_blocks
from sparsecode_pl.data.sampled import SampledActivations
from sparsecode_pl.data.shuffle import shuffled_batches
from sparsecode_pl.data.tensor import TensorActivations
from sparsecode_pl.store import MemoryWriter, Store, StoreBusyError, StoreWriter, write_store
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.seeding import generator

__all__ = [
    "ActivationDataModule",
    "ActivationStore",
    "Control",
    "ControlActivations",
    "GroundTruth",
    "MemoryWriter",
    "Place",
    "Progress",
    "Rows",
    "SampledActivations",
    "Statistics",
    "Store",
    "StoreBusyError",
    "StoreWriter",
    "TensorActivations",
    "available_plugins",
    "generator",
    "import_plugins",
    "load_plugin",
    "row_blocks",
    "shuffled_batches",
    "write_store",
]
