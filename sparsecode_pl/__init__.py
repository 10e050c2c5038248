"""Measure how sparse a neural network's activations really are, by sparse coding, beside controls that are not."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# GNU's OpenMP, which PyTorch uses, reads this when it is loaded. Its idle threads then spin for microseconds instead of
# milliseconds, which leaves the cores to others. The user's own settings are respected.
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

if TYPE_CHECKING:
    from sparsecode_pl.codec import Codec
    from sparsecode_pl.dictionary import Dictionary
    from sparsecode_pl.measurement import Results, load_results, measure
    from sparsecode_pl.module import SparseCodingModule
    from sparsecode_pl.scoring import Evaluation, score

# Where each public name is defined. They are imported when first used, so that a dictionary can be loaded and used
# without Lightning.
_HOMES = {
    "Codec": "sparsecode_pl.codec",
    "Dictionary": "sparsecode_pl.dictionary",
    "Evaluation": "sparsecode_pl.scoring",
    "Results": "sparsecode_pl.measurement",
    "SparseCodingModule": "sparsecode_pl.module",
    "load_results": "sparsecode_pl.measurement",
    "measure": "sparsecode_pl.measurement",
    "score": "sparsecode_pl.scoring",
}

__all__ = [
    "Codec",
    "Dictionary",
    "Evaluation",
    "Results",
    "SparseCodingModule",
    "load_results",
    "measure",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
