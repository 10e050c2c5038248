"""A dictionary that is not learnt."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sparsecode_pl.data import Control


class RandomDictionary(Control):
    """The measured data itself, coded with random atoms that are not trained: it shows what learning them is worth."""

    rules_out = "Rules out that any dictionary of this size codes the data as well as the one that was learnt."
    module: Mapping[str, Any] = MappingProxyType({"learn": False, "init": "random"})
