"""Lines and attempts as rows of the store's tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from factory.floor.lines import Attempt, ExitClass, Line, LineState, Needs
from factory.runtime import decoding

LINE_FIELDS = tuple(field.name for field in fields(Line))
ATTEMPT_FIELDS = tuple(field.name for field in fields(Attempt))


def columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a line as the table holds them."""
    row: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, Needs):
            value = json.dumps(asdict(value))
        elif isinstance(value, tuple):
            value = json.dumps(value)
        elif isinstance(value, bool):
            value = int(value)
        elif isinstance(value, LineState | ExitClass):
            value = value.value
        row[key] = value
    return row


def shown(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changed fields as an event shows them."""
    return {key: value for key, value in columns(changes).items() if value is not None}


def line_row(line: Line) -> dict[str, Any]:
    """Return the row of a line."""
    return columns({name: getattr(line, name) for name in LINE_FIELDS})


def to_line(row: Mapping[str, Any], *, name: str = "") -> Line:
    """Return the line of a row.

    Args:
        row: columns.
        name: name of the row, for the error message; by its id if empty.

    Raises:
        MismatchError: a value is no value of a line.
    """
    return decoding.decode_row(row, Line, name=name or f"line {row.get('id')}")


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Return the row of an attempt."""
    values = {name: getattr(attempt, name) for name in ATTEMPT_FIELDS}
    if attempt.handle:
        values["handle"] = json.dumps(asdict(attempt.handle))
    if attempt.exit_class:
        values["exit_class"] = attempt.exit_class.value
    return values


def to_attempt(row: Mapping[str, Any]) -> Attempt:
    """Return the attempt of a row, see `to_line`."""
    return decoding.decode_row(row, Attempt, name=f"attempt {row['number']} of line {row['line']}")
