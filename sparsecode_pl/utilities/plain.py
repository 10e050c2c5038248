"""Values that JSON can hold."""

import json
import math
import reprlib
import sys
import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict


def to_json(value: Any) -> Any:
    """The value with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """The same value with NaN in place of null: what `to_json` was given, but for the infinities."""
    if isinstance(value, dict):
        return {name: from_json(item) for name, item in value.items()}
    return math.nan if value is None else value


def parse_json(content: bytes) -> dict[str, Any]:
    """The JSON object in a file's content.

    Raises:
        ValueError: it is not JSON, not an object, nested too deeply, or has a number that is NaN or infinite.

    Example:
        >>> parse_json(b'{"rows": NaN}')
        Traceback (most recent call last):
        ...
        ValueError: it has the number NaN, which JSON does not have
    """
    try:
        parsed = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"it holds {reprlib.repr(parsed)}, not a JSON object")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has the number {name}, which JSON does not have")


def check_type(name: str, value: Any, wanted: Any) -> None:
    """Check that a value which was read from a file is of the type that it must be.

    Args:
        name: of the value, for messages; "" for a whole file.
        value: as JSON gives it.
        wanted: `str`, `bool`, `int`, `float` (a finite number), `None`, `Any`, a union or `list` of such types, a
            `dict` with names for keys, a `tuple` of fixed length, or a `TypedDict` (further keys are allowed).

    Raises:
        ValueError: it is of another type.

    Example:
        >>> check_type("rows", {"train": 3, "heldout": "4"}, dict[str, int])
        Traceback (most recent call last):
        ...
        ValueError: rows['heldout'] is '4', not int
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return
    if origin in (Union, types.UnionType):
        if any(_fits(value, one) for one in arguments):
            return
        some = [one for one in arguments if one is not types.NoneType]
        if len(some) == 1:  # which tells where within the value it does not fit
            check_type(name, value, some[0])
    elif is_typeddict(wanted):
        if isinstance(value, dict):
            for key, kind in get_type_hints(wanted).items():
                if key in value:
                    check_type(f"{name}[{key!r}]" if name else key, value[key], kind)
                elif key in wanted.__required_keys__:
                    raise ValueError(f"{name or 'it'} has no {key!r}")
            return
    elif origin is dict:
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            for key, item in value.items():
                check_type(f"{name}[{key!r}]", item, arguments[1])
            return
    elif origin is list:
        if isinstance(value, list):
            for number, item in enumerate(value):
                check_type(f"{name}[{number}]", item, arguments[0])
            return
    elif origin is tuple:
        if isinstance(value, list | tuple) and len(value) == len(arguments):
            for number, (item, kind) in enumerate(zip(value, arguments, strict=True)):
                check_type(f"{name}[{number}]", item, kind)
            return
    elif _is(value, wanted):
        return
    raise ValueError(f"{name} is {reprlib.repr(value)}, not {_words(wanted)}")


def _fits(value: Any, wanted: Any) -> bool:
    try:
        check_type("", value, wanted)
    except ValueError:
        return False
    return True


def _is(value: Any, wanted: Any) -> bool:
    """Whether a value is of a plain type; a truth value is no number."""
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if wanted in (None, types.NoneType) else isinstance(value, wanted)


def _words(wanted: Any) -> str:
    if wanted is float:
        return "a finite number"
    return wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted).replace("typing.", "")


def plain_attributes(thing: object) -> dict[str, Any]:
    """The attributes of an object that are texts, numbers or truth values, by name."""
    plain = (str, int, float, bool, type(None))
    return {name.lstrip("_"): value for name, value in sorted(vars(thing).items()) if isinstance(value, plain)}
