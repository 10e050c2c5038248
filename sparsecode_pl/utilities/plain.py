"""Values that JSON can hold."""

import json
import math
import reprlib
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from sparsecode_pl.utilities.kinds import choices, fits, in_words, shown


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
        wanted: `str`, `bool`, `int`, `float` (a finite number), `Any`, a union of types or `None`, a `list` of such
            types, a `dict` with names for keys, a `tuple` of fixed length, or a `TypedDict` (further keys are allowed).

    Raises:
        ValueError: it is of another type.

    Example:
        >>> check_type("rows", {"train": 3, "heldout": "4"}, dict[str, int])
        Traceback (most recent call last):
        ...
        ValueError: rows['heldout'] is '4', not an integer
    """
    if wanted is Any:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, not a finite number")
    for one in choices(wanted):
        # JSON has lists in place of tuples.
        if fits(value, list if get_origin(one) is tuple else one):
            _check_entries(name, value, one)
            return
    raise ValueError(f"{name or 'it'} is {shown(value)}, not {in_words(wanted)}")


def _check_entries(name: str, value: Any, wanted: Any) -> None:
    """Check what is in a list or a mapping."""
    arguments = get_args(wanted)
    if is_typeddict(wanted):
        for key, kind in get_type_hints(wanted).items():
            if key in value:
                check_type(f"{name}[{key!r}]" if name else key, value[key], kind)
            elif key in wanted.__required_keys__:
                raise ValueError(f"{name or 'it'} has no {key!r}")
    elif isinstance(value, dict) and arguments:
        for key, item in value.items():
            check_type(f"{name}: the name {key!r}", key, arguments[0])
            check_type(f"{name}[{key!r}]", item, arguments[1])
    elif isinstance(value, list):
        if get_origin(wanted) is not tuple:
            arguments *= len(value)
        elif len(value) != len(arguments):
            raise ValueError(f"{name} is {shown(value)}, not {len(arguments)} values")
        for number, (item, kind) in enumerate(zip(value, arguments, strict=True)):
            check_type(f"{name}[{number}]", item, kind)


def plain_attributes(thing: object) -> dict[str, Any]:
    """The attributes of an object that are texts, numbers or truth values, by name."""
    plain = (str, int, float, bool, type(None))
    return {name.lstrip("_"): value for name, value in sorted(vars(thing).items()) if isinstance(value, plain)}
