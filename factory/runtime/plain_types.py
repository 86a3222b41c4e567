"""Check that plain values, as JSON has them, are of the type that an annotation names."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

_LARGEST_COUNT = 2**63 - 1


def conforms(value: Any, hint: Any) -> bool:
    """Tell whether a plain value is of the type `hint`: scalars, unions, `list[...]` and `dict[str, ...]`.

    An int passes as a float; a bool passes as neither, and no int is longer than 64 bits.
    """
    if hint is Any:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is float:
        return isinstance(value, float) or conforms(value, int)
    if hint is int:
        return type(value) is int and -_LARGEST_COUNT <= value <= _LARGEST_COUNT
    inner = typing.get_args(hint)
    container = typing.get_origin(hint) or hint
    if container in (types.UnionType, typing.Union):
        return any(conforms(value, choice) for choice in inner)
    if not isinstance(value, container):
        return False
    if container is list and inner:
        return all(conforms(item, inner[0]) for item in value)
    if container is dict and inner:
        return all(conforms(key, inner[0]) and conforms(item, inner[1]) for key, item in value.items())
    return True


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a plain value is a finite number; a bool is none, and neither is an int beyond 64 bits.

    `math.isfinite` alone raises OverflowError for an int that no float can hold.
    """
    return conforms(value, float) and math.isfinite(value)


def check_mapping(values: Any, schema: type, *, name: str, optional: Collection[str] = ()) -> None:
    """Check that a mapping has every key that a class annotates, each with a value of its type.

    Args:
        values: plain values; further keys are left alone.
        schema: class whose annotations are the keys and types.
        name: name of the mapping, for the error message.
        optional: keys that may be missing.

    Raises:
        ValueError: it is no mapping, a key is missing, or a value has another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: no mapping")
    for key, hint in typing.get_type_hints(schema).items():
        if key not in values and key in optional:
            continue
        if key not in values:
            raise ValueError(f"{name}: {key} is missing")
        if not conforms(values[key], hint):
            expected = getattr(hint, "__name__", str(hint))
            raise ValueError(f"{name}: {key}={values[key]!r:.40} is no {expected}")
