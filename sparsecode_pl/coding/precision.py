"""Products in the full precision of their numbers, whatever the user allows elsewhere."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from sparsecode_pl.coding.threads import beside_fork

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def find_codes(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate what finds codes: it records no gradient, and computes in the full precision of its numbers.

    Coarser products would choose other atoms. The device is that of the first tensor among the arguments.
    """

    @functools.wraps(function)
    def guarded(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        given = (*args, *kwargs.values())
        device = next((value.device for value in given if isinstance(value, Tensor)), torch.device("cpu"))

        def call() -> _Result:
            with torch.no_grad(), full_precision(device):
                return function(*args, **kwargs)

        return beside_fork(call)

    return guarded


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 products in float32: without autocast, TF32 or bfloat16, whatever the user allows elsewhere.

    What the user allows is as before afterwards. It is a setting of the process, so while codes are found, other
    threads of it compute in full precision too.

    Args:
        device: whose autocast is switched off.
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
        """Begin anew: a child after a fork has none of the threads that may be inside."""
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
    """Set the precision where it is not full, and return what sets it back."""
    # PyTorch has two ways to set it, and reading by the old one raises where the user has used the new one.
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # from PyTorch 2.9 on
        places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        coarse = [(place, place.fp32_precision) for place in places if place.fp32_precision not in ("none", "ieee")]
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
