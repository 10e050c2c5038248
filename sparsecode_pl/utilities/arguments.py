"""Whether arguments are of the kind that their annotations say, so that an error names the argument and the cure."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

import torch
from torch import Tensor

from sparsecode_pl.utilities.kinds import fits, in_words, shown


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments of another kind than their annotations say.

    A number is no truth value, and a truth value or a text is no number. What an annotation says of the entries of a
    list or a mapping is not looked at.

    Args:
        function: what the arguments are given to, or a dataclass.
        given: arguments by name, such as `locals()` at the beginning of the function; other names are left out.

    Raises:
        ValueError: an argument is of another kind, or a number is too large for a float or a 64-bit integer.

    Example:
        >>> def scaled(size: int, factor: float = 1.0) -> float:
        ...     check_arguments(scaled, locals())
        ...     return size * factor
        >>> scaled(3), scaled(3, 2)
        (3.0, 6)
        >>> scaled("3")
        Traceback (most recent call last):
        ...
        ValueError: size is '3': give an integer
        >>> scaled(3, True)
        Traceback (most recent call last):
        ...
        ValueError: factor is True: give a number
    """
    for name, annotation in _annotations(function).items():
        if name in given and not fits(given[name], annotation):
            raise ValueError(f"{name} is {shown(given[name])}: give {in_words(annotation)}")


def check_tensor(x: object, name: str, *, sparse: bool = False, floating: bool = False) -> None:
    """Refuse what is not a dense tensor with values.

    Args:
        x: what should be one.
        name: of the argument, for the message.
        sparse: whether a sparse CSR tensor will do, too.
        floating: whether it must be of a floating dtype.

    Raises:
        ValueError: it is no tensor, of another layout or dtype, or it is on the device "meta".

    Example:
        >>> check_tensor([[1.0, 2.0]], "x")
        Traceback (most recent call last):
        ...
        ValueError: x is a list: give a tensor, such as torch.as_tensor(x)
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}: give a tensor, such as torch.as_tensor({name})")
    if x.is_nested or not (x.layout == torch.strided or (sparse and x.layout == torch.sparse_csr)):
        cure = " or CSR" if sparse else ""
        raise ValueError(f"{name} has layout {x.layout}: give a dense tensor{cure}, such as {name}.to_dense()")
    if x.is_meta:
        raise ValueError(f"{name} is on the device meta, which holds no values: give a tensor with values")
    if floating and not x.is_floating_point():
        raise ValueError(f"{name} is {x.dtype}: give floats, such as {name}.float()")


def check_number(value: object, name: str) -> float:
    """The float that a real number, or a tensor of one, stands for.

    Args:
        value: the number.
        name: of the argument, for the message.

    Raises:
        ValueError: it is something else, or too large for a float.

    Example:
        >>> check_number(torch.tensor(0.5), "lam"), check_number(2, "lam")
        (0.5, 2.0)
        >>> check_number("0.5", "lam")
        Traceback (most recent call last):
        ...
        ValueError: lam is '0.5': give a number
    """
    if isinstance(value, Tensor) and value.ndim == 0 and not (value.is_meta or value.dtype == torch.bool):
        value = value.item()
    if not fits(value, float):
        raise ValueError(f"{name} is {shown(value)}: give a number")
    return float(value)  # type: ignore[arg-type]


def check_positive(value: object, name: str, cure: str) -> float:
    """The float that a finite number above 0, or a tensor of one, stands for.

    Args:
        value: the number.
        name: of the argument, for the message.
        cure: what to give instead, for the message.

    Raises:
        ValueError: it is something else.

    Example:
        >>> check_positive(0, "lam", "a finite penalty above 0")
        Traceback (most recent call last):
        ...
        ValueError: lam is 0.0: give a finite penalty above 0
    """
    number = check_number(value, name)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {number}: give {cure}")
    return number


@lru_cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(function)
    hints.pop("return", None)
    return hints
