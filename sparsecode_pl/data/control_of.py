"""A control as data in its own right."""

from typing import Any

from sparsecode_pl.data.control import Control
from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.data.source import Source
from sparsecode_pl.utilities.arguments import check_arguments


class ControlOf(ActivationDataModule):
    """The rows that a control makes from data, as data in their own right, for `sparsecode fit` for instance.

    Args:
        control: makes the rows.
        data: what it makes them from.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        ValueError: the control changes the module, not the rows.
    """

    def __init__(self, control: Control, data: ActivationDataModule, **kwargs: Any) -> None:
        check_arguments(ControlOf.__init__, locals())
        super().__init__(**kwargs)
        if control.module:
            settings = ", ".join(f"--model.{name} {value}" for name, value in control.module.items())
            raise ValueError(f"{control.label} has no rows of its own: fit the data itself, with {settings}")
        self._sources = [control.of(source) for source in data.layers]

    def sources(self) -> list[Source]:
        """The control of each layer."""
        return self._sources
