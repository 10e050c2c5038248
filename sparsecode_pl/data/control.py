"""What the score of data is held against."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from zlib import crc32

import torch

from sparsecode_pl.data.old_forms import check_control_form
from sparsecode_pl.data.source import Source
from sparsecode_pl.utilities.seeding import generator


class Control:
    """What the score of data is held against: other rows, or a changed module.

    A subclass overrides `of`, `module` or both. `sparsecode measure` asks each control for the rows of every measured
    layer, and loads them with the split, batches and rounds of the measured data.

    Example:
        >>> from sparsecode_pl.data import TensorSource
        >>> class Negated(Control):
        ...     def of(self, source: Source) -> Source:
        ...         return TensorSource(-source.rows[:], label=self.label)
        >>> control = Negated().of(TensorSource(torch.ones(2, 1)))
        >>> control.label, control.rows.flatten()
        ('Negated', tensor([-1., -1.]))
    """

    #: Settings of `SparseCodingModule` that differ for this control.
    module: Mapping[str, Any] = MappingProxyType({})

    #: What a difference between the data and this control rules out, a sentence for `sparsecode plugins`.
    rules_out: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_control_form(cls)

    @property
    def label(self) -> str:
        """The name of the control in tables and pictures."""
        return type(self).__name__

    def of(self, source: Source) -> Source:
        """The rows of the control for given rows; by default these rows themselves.

        Raises:
            ValueError: this data can have no such control.
        """
        return source


def control_random(seed: int, name: str, *key: int, own: bool = False) -> torch.Generator:
    """A generator for the draws of a control, which shares no numbers with the data even if the seeds are equal.

    Args:
        seed: of the control.
        name: of the control's class.
        key: what is drawn.
        own: whether the control is used as data in its own right.
    """
    return generator(seed, crc32(name.encode()), 1 if own else 2, *key)
