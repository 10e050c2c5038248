"""Products in the full precision of their inputs, whatever the user's settings."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from sparsecode_pl.coding.threads import beside_fork
from sparsecode_pl.utilities.arguments import check_tensor

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def find_codes(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a function that finds codes: it runs without gradient and in the full precision of its inputs.

    Lower precision would choose other atoms. The device is that of the first tensor among the arguments. The first
    argument is the activations, `x`.
    """

    @functools.wraps(function)
    def guarded(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        given = (*args, *kwargs.values())
        check_tensor(kwargs.get("x", given[0] if given else None), "x")
        device = next((value.device for value in given if isinstance(value, Tensor)), torch.device("cpu"))

        def call() -> _Result:
            with torch.no_grad(), full_precision(device):
                return function(*args, **kwargs)

        return beside_fork(call)

    return guarded


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 products in float32: without autocast, TF32 or bfloat16, whatever the user's settings.

    The user's settings are restored afterwards. They belong to the process, so other threads compute in full precision
    too while codes are found.

    Args:
        device: the device whose autocast is switched off.
    """
    with torch.autocast(device.type, enabled=False):
        _SWITCH.enter()
        try:
            yield
        finally:
            _SWITCH.leave()


class _Switch:
    """Sets PyTorch's precision of float32 products for as long as any thread asks for it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start again: after a fork, the child has none of the threads that may be inside."""
        self._lock = Lock()
        self._inside = 0
        self._restore: Callable[[], None] = _nothing

    def enter(self) -> None:
        """The first to enter sets the precision."""
        with self._lock:
            if self._inside == 0:
                self._restore = _set_full_precision()
            self._inside += 1

    def leave(self) -> None:
        """The last to leave sets it back."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()


def _nothing() -> None:
    pass


def _set_full_precision() -> Callable[[], None]:
    """Set full precision, and return a function that restores the user's setting."""
    # PyTorch has two interfaces to this setting. Reading by the old one raises if the user has used the new one.
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # from PyTorch 2.9 on
        places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        coarse = [(place, place.fp32_precision) for place in places if place.fp32_precision not in ("none", "ieee")]
        # A place that follows the setting for all places reads like it, and must go on following it.
        general = torch.backends.fp32_precision  # type: ignore[attr-defined]
        coarse = [(place, "none" if precision == general else precision) for place, precision in coarse]
        for place, _ in coarse:
            place.fp32_precision = "ieee"

        def restore() -> None:
            for place, precision in coarse:
                place.fp32_precision = precision

        return restore
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        return _nothing
    torch.set_float32_matmul_precision("highest")
    return functools.partial(torch.set_float32_matmul_precision, before)


_SWITCH = _Switch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SWITCH.forget)
