"""Build typed values from plain ones, as JSON and SQLite hold them; what does not fit is refused by its name.

Annotations are the schema: those of dataclasses, typed dictionaries, containers, enums and ranges.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar

from factory.runtime import stored_files

LARGEST_NUMBER = 1e24
"""Greatest magnitude of a float; products and sums of such numbers are still finite."""
LARGEST_INT = 2**63 - 1
"""Greatest magnitude of an int, as SQLite has it."""
LARGEST_COUNT = 10**15
"""Greatest number of things; sums of thousands of such numbers still fit into 64 bits."""
LATEST = 253402300799.0
"""End of the year 9999 in seconds since 1970, UTC; no calendar goes further."""
_PLACE = re.compile(r"[0-9]{1,15}")

T = TypeVar("T")
Decoder = Callable[[Any], Any]


class MismatchError(ValueError):
    """A plain value is not of the type that its place asks for; the message begins with its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """Range of a number, its ends included; for `Annotated`."""

    least: float
    most: float


Count = Annotated[int, Within(0, LARGEST_COUNT)]
"""Number of things, or the id of one."""
Moment = Annotated[float, Within(0.0, LATEST)]
"""Time in seconds since 1970, UTC."""


def decode(value: Any, hint: Any, *, name: str) -> Any:
    """Return a plain value of JSON as what `hint` asks for, such as a dataclass, an enum or a tuple.

    Args:
        value: the plain value.
        hint: its type: a scalar, an enum, a union, a container, a dataclass, a `TypedDict`, or `Annotated`
            with `Within`.
        name: name of the value, for the error message.

    Raises:
        MismatchError: a value has another type, is not finite or out of range, a key is missing or unknown.
    """
    with _named(name):
        return _decoder(hint)(value)


def decode_json(text: Any, hint: Any, *, name: str) -> Any:
    """Return the values in a JSON text as what `hint` asks for, see `decode`."""
    with _named(name):
        return _decoder(hint)(_parsed(text))


def decode_row(values: Mapping[str, Any], schema: type[T], *, name: str) -> T:
    """Build a dataclass from the columns of a table: containers are JSON there, and a bool is 0 or 1."""
    with _named(name):
        return typing.cast(T, _row_decoder(typing.cast(Any, schema))(values))


class _Named:
    """Puts a name in front of the message of a mismatch; a class, since generators cost ten times as much."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MismatchError):
            raise MismatchError(f"{self._name}: {error}") from None


_named = _Named


@cache
def _decoder(hint: Any) -> Decoder:
    """Return what checks and builds values of a type; made once for each type."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if origin is Annotated:
        return _ranged(*inner)
    if origin in (types.UnionType, typing.Union):
        return _union([_decoder(choice) for choice in inner])
    if origin in (typing.Required, typing.NotRequired):
        return _decoder(inner[0])
    if typing.is_typeddict(origin):
        return _typed_dict(origin)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return _enum(origin)
    if dataclasses.is_dataclass(origin):
        return _record(origin, _decoder)
    if origin is tuple and inner[-1] is not Ellipsis:
        return _fixed(inner)
    if origin in (list, tuple, frozenset, Sequence):
        return _sequence(origin, _decoder(inner[0]))
    if origin in (dict, Mapping):
        return _mapping(inner[0], _decoder(inner[1]))
    raise TypeError(f"no plain value is a {hint}")


@cache
def _row_decoder(schema: type) -> Decoder:
    return _record(schema, _column)


@cache
def _column(hint: Any) -> Decoder:
    """Return what decodes a column: SQLite has numbers and texts only."""
    origin = typing.get_origin(hint) or hint
    inner = typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _union([_column(choice) for choice in inner])
    if hint is bool:
        return _flag
    is_container = origin in (list, tuple, frozenset, Sequence, dict, Mapping)
    if is_container or dataclasses.is_dataclass(origin) or typing.is_typeddict(origin):
        inside = _decoder(hint)
        return lambda value: inside(_parsed(value))
    return _decoder(hint)


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        raise _mismatch(text, "JSON")
    try:
        return stored_files.parse_json(text, name="JSON")
    except ValueError as error:
        raise MismatchError(str(error)) from error


def _mismatch(value: Any, expected: str) -> MismatchError:
    return MismatchError(f"{value!r:.40} is no {expected}")


def _anything(value: Any) -> Any:
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise _mismatch(value, "null")


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _mismatch(value, "bool")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not int or value not in (0, 1):
        raise _mismatch(value, "flag (0 or 1)")
    return bool(value)


def _int(value: Any) -> int:
    if type(value) is not int or not -LARGEST_INT <= value <= LARGEST_INT:
        raise _mismatch(value, "int of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise _mismatch(value, "number")
    try:
        return float(value)
    except OverflowError:
        raise _mismatch(value, "number") from None


def _str(value: Any) -> str:
    # No name of a file has a zero byte.
    if not isinstance(value, str) or "\0" in value:
        raise _mismatch(value, "text")
    return value


def _within(inside: Decoder, limits: Within) -> Decoder:
    least = limits.least
    most = limits.most

    def decoded(value: Any) -> Any:
        found = inside(value)
        # False for NaN as well.
        if not least <= found <= most:
            raise MismatchError(f"{value!r:.40} is not in [{least:g}, {most:g}]")
        return found

    return decoded


_SCALARS: dict[Any, Decoder] = {
    Any: _anything,
    None: _nothing,
    types.NoneType: _nothing,
    bool: _bool,
    int: _int,
    float: _within(_number, Within(-LARGEST_NUMBER, LARGEST_NUMBER)),
    str: _str,
}


def _ranged(hint: Any, *notes: Any) -> Decoder:
    for note in notes:
        if isinstance(note, Within):
            return _within(_number if hint is float else _decoder(hint), note)
    return _decoder(hint)


def _union(choices: Sequence[Decoder]) -> Decoder:
    rest = [choice for choice in choices if choice is not _nothing]
    has_none = len(rest) < len(choices)
    *others, last = rest

    def decoded(value: Any) -> Any:
        if value is None and has_none:
            return None
        for choice in others:
            try:
                return choice(value)
            except MismatchError:
                continue
        return last(value)

    return decoded


def _enum(enum: type[Enum]) -> Decoder:
    known = {member.value: member for member in enum}

    def decoded(value: Any) -> Any:
        if not isinstance(value, str | int) or value not in known:
            raise MismatchError(f"{value!r:.40} is none of {', '.join(map(str, known))}")
        return known[value]

    return decoded


def _record(schema: Any, decoder: Callable[[Any], Decoder]) -> Decoder:
    """Return what builds a dataclass from a mapping with its fields, those with a default being optional."""
    hints = typing.get_type_hints(schema, include_extras=True)
    fields = dataclasses.fields(schema)
    inside = {field.name: decoder(hints[field.name]) for field in fields}
    required = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def decoded(value: Any) -> Any:
        found = _items(value, inside, required)
        unknown = value.keys() - inside.keys()
        if unknown:
            raise MismatchError(f"{min(unknown)!r:.40} is no key of it")
        return schema(**found)

    return decoded


def _typed_dict(schema: Any) -> Decoder:
    """Return what checks a dictionary; keys that the schema does not name are left alone."""
    hints = typing.get_type_hints(schema, include_extras=True)
    inside = {key: _decoder(hint) for key, hint in hints.items()}
    # `__required_keys__` of Python 3.11 does not see through annotations that are texts.
    required = {key for key, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}

    def decoded(value: Any) -> Any:
        found = _items(value, inside, required)
        return {**value, **found}

    return decoded


def _items(value: Any, inside: Mapping[str, Decoder], required: typing.Collection[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, "mapping")
    found: dict[str, Any] = {}
    for key, decoder in inside.items():
        if key in value:
            with _Named(key):
                found[key] = decoder(value[key])
        elif key in required:
            raise MismatchError(f"{key} is missing")
    return found


def _fixed(hints: Sequence[Any]) -> Decoder:
    inside = [_decoder(hint) for hint in hints]

    def decoded(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(inside):
            raise _mismatch(value, f"list of {len(inside)}")
        return tuple(decoder(item) for decoder, item in zip(inside, value, strict=True))

    return decoded


def _sequence(origin: Any, inside: Decoder) -> Decoder:
    make = {tuple: tuple, frozenset: frozenset}.get(origin, list)

    def decoded(value: Any) -> Any:
        if not isinstance(value, list):
            raise _mismatch(value, "list")
        return make(inside(item) for item in value)

    return decoded


def _mapping(key_hint: Any, inside: Decoder) -> Decoder:
    def decoded(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _mismatch(value, "mapping")
        found: dict[Any, Any] = {}
        for key, item in value.items():
            with _Named(f"{key!r:.40}"):
                # JSON has texts for keys only.
                if key_hint is int and not _PLACE.fullmatch(key):
                    raise MismatchError("no number")
                found[key_hint(key)] = inside(item)
        return found

    return decoded
