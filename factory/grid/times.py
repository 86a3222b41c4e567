"""Moments and durations as grids write them, in seconds since 1970, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.runtime.stored_files import visible
from factory.validation import require

_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
LATEST_S = _LATEST.timestamp()
"""An interval that ends later, as with OpenADR's P9999Y, has no end; no calendar knows its date."""
_LONGEST_SHOWN = 80
_DURATION = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_UNITS_S = (365 * 86400.0, 30 * 86400.0, 7 * 86400.0, 86400.0, 3600.0, 60.0, 1.0)


def moment(value: Any, *, key: str) -> float:
    """Return a moment that is written as in RFC 3339, with its offset.

    Raises:
        ValueError: It is no moment, has no offset, or lies outside of the years 2000 to 2200.
    """
    text = shown(value)
    remedy = "write a moment with its offset, such as 2026-11-26T14:00:00Z"
    require(isinstance(value, str), key, text, remedy)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{key}={text}: {remedy}") from None
    require(found.utcoffset() is not None, key, text, remedy)
    require(_EARLIEST <= found < _LATEST, key, text, "must lie between the years 2000 and 2200")
    return found.timestamp()


def duration_s(value: Any, *, key: str) -> float:
    """Return a duration of ISO 8601 [s], such as PT1H or P9999Y.

    Raises:
        ValueError: It is none, or not above zero.
    """
    text = shown(value)
    matched = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < _LONGEST_SHOWN else None
    require(matched is not None, key, text, "write a duration of ISO 8601, such as PT1H")
    assert matched is not None
    # Years and months count as 365 and 30 days: a duration of a signal has no calendar.
    numbers = (float(number or 0.0) for number in matched.groups())
    found = sum(number * unit_s for number, unit_s in zip(numbers, _UNITS_S, strict=True))
    require(found > 0.0, key, text, "must be above zero")
    return found


def text_of(at: float) -> str:
    """Return a moment as in RFC 3339, in UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)).isoformat().replace("+00:00", "Z")


def shown(value: Any) -> str:
    """Return a stranger's value as a short text for a message."""
    text = visible(" ".join(str(value).split()))
    if len(text) > _LONGEST_SHOWN:
        return f"{text[:_LONGEST_SHOWN]} ..."
    return text
