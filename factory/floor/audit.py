"""The chain of events: each row holds the digest of the row before, so that no row can be changed unseen."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
"""Digest before the first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened on the floor."""

    seq: int
    at: float
    """Time, in seconds since 1970, UTC."""
    kind: str
    line: int | None
    details: dict[str, Any]


def append(
    connection: sqlite3.Connection, *, at: float, kind: str, line: int | None, details: dict[str, Any]
) -> None:
    """Add an event to the chain, inside the caller's transaction."""
    # Sorted keys give equal details one text, and so one digest.
    text = json.dumps(details, sort_keys=True)
    last = connection.execute("SELECT digest FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    previous = last[0] if last else GENESIS
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
    rows = connection.execute("SELECT seq, at, kind, line, details, previous, digest FROM event ORDER BY seq")
    for seq, at, kind, line, details, stored_previous, digest in rows:
        count += 1
        # Numbers without a gap show removed events, digests show changed ones.
        is_next = seq == count and stored_previous == previous
        if not is_next or digest != _digest(previous, at, kind, line, details):
            raise ValueError(f"event {seq} does not follow from the events before it: the chain was changed")
        previous = digest
    return count


def read(connection: sqlite3.Connection, *, line: int | None = None, limit: int = 1000) -> Iterator[Event]:
    """Yield the newest events, newest first; those of one line, or all."""
    rows = connection.execute(
        "SELECT seq, at, kind, line, details FROM event WHERE ? IS NULL OR line = ?"
        " ORDER BY seq DESC LIMIT ?",
        (line, line, limit),
    )
    for seq, at, kind, of_line, details in rows:
        yield Event(seq=seq, at=at, kind=kind, line=of_line, details=json.loads(details))


def _digest(previous: str, at: float, kind: str, line: int | None, details: str) -> str:
    content = json.dumps([previous, at, kind, line, details])
    return hashlib.sha256(content.encode()).hexdigest()
