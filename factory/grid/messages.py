"""Messages of DSX Flex 1.7 that a floor takes: CloudEvents with load targets, as plain JSON.

The format is that of the public specification (`dsx-ai-factory/dsx-exchange`, Apache-2.0); the schema beside
this file describes all four types. A floor takes more than the schema allows: names that are no UUIDs, and
envelopes without `subject` and `traceparent`. Signed data (JWS) is for a bridge in front of it to check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from factory.grid.times import moment, shown
from factory.runtime.plain_types import is_number
from factory.runtime.stored_files import parse_json
from factory.validation import require

LOAD_TARGET = "grid.loadtarget.set.v1"
POWER_STATE = "grid.powerstate.status.v1"
BREACH = "grid.powerbreach.alert.v1"
ENFORCEMENT = "grid.powerbreach.enforcement.v1"
SPEC_VERSIONS = ("1.0", "1.0.2")
LARGEST_EVENT_BYTES = 1 << 20
UNITS_W = {"watt": 1.0, "kilowatt": 1e3, "megawatt": 1e6}
_HIGHEST_W = 1e12
MOST_TARGETS = 1000
_LONGEST_NAME = 256


@dataclass(frozen=True, kw_only=True)
class Event:
    """Envelope of a message."""

    id: str
    source: str
    type: str
    time: float
    """Time at which the sender made it [s since 1970, UTC]."""
    data: Mapping[str, Any]
    correlation_id: str = ""

    @property
    def key(self) -> str:
        """Identity: a sender uses an id once."""
        return json.dumps([self.source, self.id])


@dataclass(frozen=True, kw_only=True)
class LoadTarget:
    """A power that the grid asks for in a half-open interval of time [s since 1970, UTC]."""

    watts: float
    """Power [W]; infinite where an earlier target is taken back."""
    start: float | None
    """None for the time of the message."""
    end: float | None
    """First moment at which it no longer holds; None without an end."""
    feeds: tuple[str, ...]
    """Feeds that it is for; empty for all."""
    is_hard: bool
    """True if it has to be met even by lines that tolerate no slowdown."""


def parse_event(content: bytes) -> Event:
    """Return the envelope of a message.

    Raises:
        ValueError: It is no such message; one line names key, value and remedy.
    """
    # Size first: nothing of a message from outside is parsed before it is known to be small.
    require(len(content) <= LARGEST_EVENT_BYTES, "event", f"{len(content)} bytes", "must be at most 1 MiB")
    plain = parse_json(content, name="event")
    require(isinstance(plain, dict), "event", shown(plain), "send one CloudEvent as a JSON object")
    version = plain.get("specversion")
    require(version in SPEC_VERSIONS, "specversion", shown(version), "must be 1.0.2")
    for key in ("id", "source", "type"):
        value = plain.get(key)
        is_name = isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME
        require(is_name, key, shown(value), f"must be a text of at most {_LONGEST_NAME} characters")
    content_type = plain.get("datacontenttype", "application/json")
    require(content_type == "application/json", "datacontenttype", shown(content_type), "must be JSON")
    data = plain.get("data")
    remedy = "must be a JSON object; signed data is for a bridge to check and unwrap"
    require(isinstance(data, dict), "data", shown(data), remedy)
    assert isinstance(data, dict)
    correlation = plain.get("correlationid", "")
    is_short = isinstance(correlation, str) and len(correlation) <= _LONGEST_NAME
    require(is_short, "correlationid", shown(correlation), "must be a short text")
    return Event(
        id=plain["id"],
        source=plain["source"],
        type=plain["type"],
        time=moment(plain.get("time"), key="time"),
        data=data,
        correlation_id=shown(correlation or plain["id"]),
    )


def load_targets(event: Event) -> list[LoadTarget]:
    """Return the targets of a message; one that is wrong makes the whole message wrong.

    Raises:
        ValueError: The message is of another type, or a target is wrong.
    """
    require(event.type == LOAD_TARGET, "type", shown(event.type), f"a floor takes {LOAD_TARGET} only")
    entries = event.data.get("targets")
    is_list = isinstance(entries, list) and 0 < len(entries) <= MOST_TARGETS
    require(is_list, "data.targets", shown(entries), f"must be a list of 1 to {MOST_TARGETS} targets")
    assert isinstance(entries, list)
    return [_target(entry, key=f"data.targets[{place}]") for place, entry in enumerate(entries)]


def _target(entry: Any, *, key: str) -> LoadTarget:
    require(isinstance(entry, dict), key, shown(entry), "must be an object")
    interval = entry.get("interval")
    require(isinstance(interval, dict), f"{key}.interval", shown(interval), "must be an object")
    start = _optional_moment(interval.get("start_time"), key=f"{key}.interval.start_time")
    end = _optional_moment(interval.get("end_time"), key=f"{key}.interval.end_time")
    if start is not None and end is not None:
        require(
            start < end, f"{key}.interval.end_time", shown(interval["end_time"]), "must be after the start"
        )
    feeds = entry.get("feed_tags") or []
    is_list = isinstance(feeds, list) and all(isinstance(feed, str) and feed for feed in feeds)
    require(is_list, f"{key}.feed_tags", shown(feeds), "must be a list of names")
    strategy = entry.get("strategy") or {}
    require(isinstance(strategy, dict), f"{key}.strategy", shown(strategy), "must be an object")
    is_best_effort = strategy.get("best_effort", False)
    is_flag = isinstance(is_best_effort, bool)
    require(is_flag, f"{key}.strategy.best_effort", shown(is_best_effort), "must be true or false")
    require(
        "load_constraint" in entry, f"{key}.load_constraint", "", "give a power, or null to take one back"
    )
    return LoadTarget(
        watts=_watts(entry["load_constraint"], key=f"{key}.load_constraint"),
        start=start,
        end=end,
        feeds=tuple(feeds),
        is_hard=not is_best_effort,
    )


def _optional_moment(value: Any, *, key: str) -> float | None:
    if value is None:
        return None
    return moment(value, key=key)


def _watts(constraint: Any, *, key: str) -> float:
    """Return a power [W]; infinite for null."""
    if constraint is None:
        return inf
    require(isinstance(constraint, dict), key, shown(constraint), "must be an object, or null")
    unit = constraint.get("unit")
    is_unit = isinstance(unit, str) and unit in UNITS_W
    require(is_unit, f"{key}.unit", shown(unit), f"choose from {', '.join(UNITS_W)}")
    value = constraint.get("value")
    require(is_number(value), f"{key}.value", shown(value), "must be a number")
    is_power = 0.0 <= value * UNITS_W[unit] <= _HIGHEST_W
    require(is_power, f"{key}.value", shown(value), f"must be a power in [0, {_HIGHEST_W:g}] W")
    return float(value) * UNITS_W[unit]
