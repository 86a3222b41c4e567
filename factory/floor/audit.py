"""The chain of events: each row holds the digest of the row before, so that no row can be changed unseen."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NotRequired, TypedDict

from factory.floor.lines import LineState
from factory.runtime import decoding
from factory.runtime.decoding import Count, Moment

GENESIS = "0" * 64
"""Digest before the first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened on the floor."""

    seq: Count
    at: Moment
    """Time, in seconds since 1970, UTC."""
    kind: str
    line: int | None
    details: dict[str, Any]


class Move(TypedDict):
    """Details of the event `moved`."""

    to: LineState
    reason: NotRequired[str]


class Prediction(TypedDict):
    """Details of an action of the scheduler."""

    predicted_w: NotRequired[float]
    predicted_sd_w: NotRequired[float]


_DETAILS: dict[str, Any] = {
    "moved": Move,
    "start": Prediction,
    "pause": Prediction,
    "resume": Prediction,
    "preempt": Prediction,
}
"""Details of the events that are read again, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """An event as the chain has it."""

    seq: int
    at: float
    kind: str
    line: int | None
    details: str
    previous: str
    digest: str


def append(
    connection: sqlite3.Connection, *, at: float, kind: str, line: int | None, details: dict[str, Any]
) -> None:
    """Add an event to the chain, inside the caller's transaction."""
    # Sorted keys give equal details one text, and so one digest.
    text = json.dumps(details, sort_keys=True)
    last = connection.execute("SELECT digest FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    previous = GENESIS
    if last:
        previous = decoding.decode(last[0], str, name="digest of the last event")
    connection.execute(
        "INSERT INTO event (at, kind, line, details, previous, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (at, kind, line, text, previous, _digest(previous, at, kind, line, text)),
    )


def verify(connection: sqlite3.Connection) -> int:
    """Recompute the chain and return its number of events.

    Raises:
        ValueError: an event was changed, added or removed; the message names the first.
    """
    previous = GENESIS
    count = 0
    names = [field.name for field in fields(_Link)]
    for row in connection.execute(f"SELECT {', '.join(names)} FROM event ORDER BY seq"):
        count += 1
        link = decoding.decode_row(dict(zip(names, row, strict=True)), _Link, name=f"event {row[0]}")
        # Numbers without a gap show removed events, digests show changed ones.
        is_next = link.seq == count and link.previous == previous
        if not is_next or link.digest != _digest(previous, link.at, link.kind, link.line, link.details):
            raise ValueError(
                f"event {link.seq} does not follow from the events before it: the chain was changed"
            )
        previous = link.digest
    return count


def read(connection: sqlite3.Connection, *, line: int | None = None, limit: int = 1000) -> Iterator[Event]:
    """Yield the newest events, newest first; those of one line, or all."""
    rows = connection.execute(
        "SELECT seq, at, kind, line, details FROM event WHERE ? IS NULL OR line = ?"
        " ORDER BY seq DESC LIMIT ?",
        (line, line, limit),
    )
    names = [field.name for field in fields(Event)]
    for row in rows:
        name = f"event {row[0]}"
        event = decoding.decode_row(dict(zip(names, row, strict=True)), Event, name=name)
        if event.kind in _DETAILS:
            decoding.decode(event.details, _DETAILS[event.kind], name=name)
        yield event


def _digest(previous: str, at: float, kind: str, line: int | None, details: str) -> str:
    content = json.dumps([previous, at, kind, line, details])
    return hashlib.sha256(content.encode()).hexdigest()
