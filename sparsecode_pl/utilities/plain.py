"""Values that JSON can hold."""

import math
from typing import Any


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


def plain_attributes(thing: object) -> dict[str, Any]:
    """The attributes of an object that are texts, numbers or truth values, by name."""
    plain = (str, int, float, bool, type(None))
    return {name.lstrip("_"): value for name, value in sorted(vars(thing).items()) if isinstance(value, plain)}
