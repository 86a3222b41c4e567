"""Typed values from plain ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NotRequired, TypedDict

import pytest

from factory.runtime.decoding import MismatchError, Within, decode, decode_json, decode_row


class Colour(StrEnum):
    """A closed set."""

    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part with a share."""

    share: Annotated[float, Within(0.0, 1.0)]
    colour: Colour = Colour.RED


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Parts by number."""

    parts: dict[int, Part]
    pair: tuple[int, str] | None = None
    is_new: bool = False


class Loose(TypedDict):
    """A dictionary with an optional key."""

    name: str
    size: NotRequired[int]


def test_containers_and_classes_are_built_as_annotated() -> None:
    """JSON has neither tuples, nor enums, nor numbers for keys."""
    plain = {"parts": {"3": {"share": 1, "colour": "red"}}, "pair": [4, "x"], "is_new": True}
    assert decode(plain, Whole, name="whole") == Whole(
        parts={3: Part(share=1.0, colour=Colour.RED)}, pair=(4, "x"), is_new=True
    )
    assert decode({"name": "x", "more": []}, Loose, name="loose") == {"name": "x", "more": []}


def test_columns_hold_containers_as_json_and_flags_as_numbers() -> None:
    """SQLite has numbers and texts only."""
    row = {"parts": '{"3": {"share": 0.5}}', "pair": None, "is_new": 1}
    assert decode_row(row, Whole, name="row") == Whole(parts={3: Part(share=0.5)}, is_new=True)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (math.nan, float, "x: nan is not in"),
        (math.inf, float, "x: inf is not in"),
        (10**400, float, "x: 1000"),
        (2**63, int, "x: 9223372036854775808 is no int of 64 bits"),
        (True, int, "x: True is no int"),
        (True, float, "x: True is no number"),
        (1, bool, "x: 1 is no bool"),
        (b"a", str, "x: b'a' is no text"),
        ("a\0b", str, "is no text"),
        ("blue", Colour, "x: 'blue' is none of red"),
        ([], Colour, "is none of red"),
        ([1], tuple[int, str], "is no list of 2"),
        ({"a": 1}, dict[int, int], "x: 'a': no number"),
        ({"share": 2.0}, Part, r"x: share: 2.0 is not in \[0, 1\]"),
        ({"share": 0.5, "y": 1}, Part, "x: 'y' is no key of it"),
        ({}, Part, "x: share is missing"),
        ([], Loose, r"x: \[\] is no mapping"),
        ({"name": "x", "size": None}, Loose, "x: size: None is no int"),
        ("x", int | None, "x: 'x' is no int"),
    ],
)
def test_a_value_of_another_kind_is_named(value: Any, hint: Any, message: str) -> None:
    """The message begins with the name and leads to the value."""
    with pytest.raises(MismatchError, match=message):
        decode(value, hint, name="x")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[" * 40 + "]" * 40, None, 3, b"[]"])
def test_what_is_no_json_is_refused(text: Any) -> None:
    """Brackets without end are refused like any other text."""
    with pytest.raises(MismatchError, match="x: "):
        decode_json(text, list[Any], name="x")
