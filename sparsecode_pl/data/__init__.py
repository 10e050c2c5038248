"""Where activations come from.

A `Source` is rows, and what is known about them. `ActivationDataModule`, which every data plugin extends, splits,
shuffles and loads them. A `Control` makes other rows from them, or changes the module. `TensorActivations` wraps a
tensor you already have, `SampledActivations` draws rows at will, `ActivationStore` reads them from disk. `registry`
finds the installed plugins.
"""

from typing import Any

from sparsecode_pl.data.activation_store import ActivationStore, StoreSource
from sparsecode_pl.data.again import data_again
from sparsecode_pl.data.cacheable import Cacheable, fill_store
from sparsecode_pl.data.control import Control, control_random
from sparsecode_pl.data.control_of import ControlOf
from sparsecode_pl.data.derived import Derived
from sparsecode_pl.data.distinct import distinct_rows
from sparsecode_pl.data.module import ActivationDataModule, SourceActivations, Statistics
from sparsecode_pl.data.old_forms import CONTROL_ACTIVATIONS
from sparsecode_pl.data.registry import available_plugins, import_plugins, load_plugin
from sparsecode_pl.data.rerun import Passage, Replace, Rerun
from sparsecode_pl.data.rows import Rows, row_blocks
from sparsecode_pl.data.sampled import DrawnStream, SampledActivations, SampledSource
from sparsecode_pl.data.shuffle import shuffled_batches
from sparsecode_pl.data.source import GroundTruth, Place, Source, Stream, Vocabulary
from sparsecode_pl.data.split import BUCKETS, TOKEN, Split
from sparsecode_pl.data.subset import SubsetSource
from sparsecode_pl.data.tensor import TensorActivations, TensorSource
from sparsecode_pl.data.token_means import TokenMeans
from sparsecode_pl.data.without_token_means import WithoutTokenMeans
from sparsecode_pl.store import MemoryWriter, Store, StoreBusyError, StoreWriter, write_store
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.memory import total_memory
from sparsecode_pl.utilities.progress import Progress
from sparsecode_pl.utilities.row_kinds import ROWS, score_name
from sparsecode_pl.utilities.seeding import generator

__all__ = [
    "BUCKETS",
    "ROWS",
    "TOKEN",
    "ActivationDataModule",
    "ActivationStore",
    "Cacheable",
    "Control",
    "ControlOf",
    "Derived",
    "DrawnStream",
    "GroundTruth",
    "MemoryWriter",
    "Passage",
    "Place",
    "Progress",
    "Replace",
    "Rerun",
    "Rows",
    "SampledActivations",
    "SampledSource",
    "Source",
    "SourceActivations",
    "Split",
    "Statistics",
    "Store",
    "StoreBusyError",
    "StoreSource",
    "StoreWriter",
    "Stream",
    "SubsetSource",
    "TensorActivations",
    "TensorSource",
    "TokenMeans",
    "Vocabulary",
    "WithoutTokenMeans",
    "available_plugins",
    "check_arguments",
    "control_random",
    "data_again",
    "distinct_rows",
    "fill_store",
    "generator",
    "import_plugins",
    "load_plugin",
    "row_blocks",
    "score_name",
    "shuffled_batches",
    "total_memory",
    "write_store",
]


def __getattr__(name: str) -> Any:
    """Explain names of earlier versions."""
    if name == "ControlActivations":
        raise ImportError(CONTROL_ACTIVATIONS)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
