"""A dictionary of training rows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sparsecode_pl.data import Control


class DataRows(Control):
    """The measured data itself, coded with training rows drawn at random as atoms, which are not trained.

    The atoms are the directions of the centred rows. Where rows repeat, so do atoms.
    """

    rules_out = (
        "Rules out that atoms which are copies of training rows code the data as well as those that were learnt."
    )
    module: Mapping[str, Any] = MappingProxyType({"learn": False, "init": "data"})
