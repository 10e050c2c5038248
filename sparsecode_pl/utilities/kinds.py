"""Whether a value is of the kind that an annotation says, and the words for both in messages.

Arguments of functions and content of files go by the same rules: a number is no truth value, and a truth value or a
text is no number.
"""

import math
import reprlib
import types
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from torch import Tensor

# In words, for messages.
_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a text",
    Path: "a path",
    Tensor: "a tensor",
    type(None): "None",
}
_LARGEST = 2**63 - 1  # what PyTorch's sizes and NumPy's integers can hold


def choices(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; the annotation itself if it is none.

    Example:
        >>> choices(int | None), choices(str)
        ((<class 'int'>, <class 'NoneType'>), (<class 'str'>,))
    """
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of the kind that an annotation says, as far as that can be told.

    Args:
        value: whatever was given. An integer must have 64 bits at most, and a number must fit into a float.
        annotation: a type, `Literal`, `TypedDict`, or a union. What it says of the entries of a list or a mapping is
            not looked at.

    Example:
        >>> fits(3, int), fits(True, int), fits(3, float | None), fits("3", float)
        (True, False, True, False)
    """
    members = choices(annotation)
    if members != (annotation,):
        return any(fits(value, member) for member in members)
    if get_origin(annotation) is Literal:  # which of them is for the function to say
        return any(type(value) is type(choice) for choice in get_args(annotation))
    kind = _class(annotation)
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) <= _LARGEST
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_float(value)
    if kind is str:  # which a path will do for
        return isinstance(value, str | PathLike)
    if not isinstance(kind, type):
        return True
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be looked for, or Any
        return True


def in_words(annotation: Any) -> str:
    """What an annotation lets through, in words.

    Example:
        >>> in_words(float | None), in_words(dict[str, int])
        ('a number or None', 'a dict')
    """
    words = []
    for member in choices(annotation):
        if get_origin(member) is Literal:
            words += [repr(choice) for choice in get_args(member)]
        else:
            kind = _class(member)
            words.append(_WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}")
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def shown(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    try:
        return reprlib.repr(value)
    except ValueError:  # integers of thousands of digits
        return f"about 10 ** {math.log10(abs(value)):.0f}"


def _class(annotation: Any) -> Any:
    """The class that values are of."""
    return dict if is_typeddict(annotation) else get_origin(annotation) or annotation


def _is_float(value: Real) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True
