"""Plugins in the form of earlier versions get an error that shows the new form."""

from typing import Any

_DATA = '''
    class MyActivations(ActivationDataModule):
        """One sentence about the data."""

        def load(self) -> torch.Tensor:
            return torch.load("rows.pt")

Data of several layers, or with columns, a place or a ground truth, overrides `sources` instead of `load`. It returns a
list of `sparsecode_pl.data.Source`, one for each layer; each source has `columns` (once `metadata`), `provenance` (once
`origin`), `place`, `ground_truth` and `stream`.'''

_CONTROL = '''
    class Halved(Control):
        """One sentence about the control."""

        def of(self, source: Source) -> Source:
            return TensorSource(source.rows[:] / 2, label=self.label)

Batches, rounds and the split are those of the measured data. A control that changes the module instead of the rows says
so with `module = {"learn": False}`. Rows that are drawn at random are a `sparsecode_pl.data.SampledSource`.'''

CONTROL_ACTIVATIONS = (
    f"sparsecode_pl.data.ControlActivations is gone, because a control is no longer a data module:\n{_CONTROL}"
)


def check_data_form(cls: type) -> None:
    """Refuse a data module that overrides what data modules no longer have.

    Raises:
        TypeError: it does; the message shows the new form.
    """
    _refuse(cls, ("parts", "place", "metadata", "origin", "ground_truth", "stream"), "a data module says it so", _DATA)
    _refuse(cls, ("attach", "random_dictionary"), "a control is a plain class", _CONTROL)


def check_control_form(cls: type) -> None:
    """Refuse a control that is written for data modules instead of sources.

    Raises:
        TypeError: it is; the message shows the new form.
    """
    _refuse(cls, ("attach", "random_dictionary"), "a control is a plain class", _CONTROL)
    of = vars(cls).get("of")
    for name, annotation in getattr(of, "__annotations__", {}).items():
        if "ActivationDataModule" in str(annotation):
            raise TypeError(
                f"{cls.__name__}.of has {name} of type ActivationDataModule, but `of` now takes a Source and returns "
                f"one:\n{_CONTROL}"
            )


def check_asked(cls: Any, method: str, asks: object) -> None:
    """Refuse a data module that overrides a method which its `sources` does not use.

    Args:
        cls: the data module.
        method: name of the method.
        asks: the `sources` that uses it.

    Raises:
        TypeError: the class inherits another `sources`.
    """
    if method in vars(cls) and "sources" not in vars(cls) and cls.sources is not asks:
        raise TypeError(
            f"{cls.__name__} defines `{method}`, which is not used, because {cls.sources.__qualname__} gives its rows: "
            "override `sources`"
        )


def check_made(control: object, made: Any, wanted: type) -> None:
    """Refuse what a control of an earlier form returns.

    Raises:
        TypeError: it is not a source; the message shows the new form.
    """
    if not isinstance(made, wanted):
        raise TypeError(
            f"{type(control).__name__}.of returned {type(made).__name__}, but a control returns a Source:\n{_CONTROL}"
        )


def _refuse(cls: type, names: tuple[str, ...], now: str, form: str) -> None:
    for name in names:
        if name in vars(cls):
            raise TypeError(f"{cls.__name__} defines `{name}`, which is no longer used; {now}:\n{form}")
