"""Power states and breaches of a floor, written to its outbox as they happen."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from factory.floor.budget import Target
from factory.floor.lines import Line, LineState
from factory.grid import outgoing
from factory.grid.intake import SOURCE
from factory.grid.outgoing import FloorPower

CONFIRM_S = 3.0
"""Time for which power must be above the target, or back below it, before a breach begins or ends."""
PERIOD_S = 60.0
"""Time between two power states without an event."""
FILE = Path("grid") / "outbox.jsonl"


@dataclass(frozen=True, kw_only=True)
class Breach:
    """Power above the target."""

    id: str
    since: float
    severity: str
    before: tuple[Line, ...]
    """Lines when it began."""


@dataclass(frozen=True, kw_only=True)
class ReportState:
    """Everything that a reporter remembers from tick to tick."""

    limit_w: float = inf
    ramp: str = ""
    """`down` or `up` while the power follows a change of the target; empty otherwise."""
    ramp_since: float | None = None
    targets: tuple[Target, ...] = ()
    over_since: float | None = None
    under_since: float | None = None
    breach: Breach | None = None
    reported_at: float = -inf
    messages: tuple[dict[str, Any], ...] = field(default=())
    """Messages of the last tick."""


def advance(
    state: ReportState, power: FloorPower, targets: Sequence[Target], lines: Sequence[Line], *, feed: str
) -> ReportState:
    """Return the next state, with the messages that are due.

    Args:
        state: state of the last tick.
        power: power of the floor now.
        targets: targets of its budget.
        lines: its lines.
        feed: name of its feed.
    """
    own = tuple(target for target in targets if target.source.startswith(SOURCE))
    if not own and not state.targets:
        # Nobody has asked for anything yet.
        return replace(state, messages=(), limit_w=power.limit_w)
    # Causes first, since the message about a ramp says since when it lasts.
    events = _events(state, power, own, lines)
    ramp, ramp_since = _ramp(state, events, power.now)
    if not events and power.now - state.reported_at >= PERIOD_S:
        events = ["periodic"]
    messages = [
        outgoing.power_state(power, own, feed=feed, event=event, since=ramp_since) for event in events
    ]
    # A breach begins and ends only after some seconds, so that one sample makes no alarm.
    over_since, under_since = _timers(state, power)
    breach, alerts = _breach(state, power, own, lines, feed, over_since, under_since)
    reported_at = power.now if events else state.reported_at
    return ReportState(
        limit_w=power.limit_w,
        ramp=ramp,
        ramp_since=ramp_since,
        targets=own,
        over_since=over_since,
        under_since=under_since,
        breach=breach,
        reported_at=reported_at,
        messages=(*messages, *alerts),
    )


def _events(
    state: ReportState, power: FloorPower, own: tuple[Target, ...], lines: Sequence[Line]
) -> list[str]:
    """Return the causes for a power state in this tick, in their order."""
    events: list[str] = []
    if own != state.targets:
        events.append("target_set")
    if power.limit_w < state.limit_w and not power.is_compliant:
        events.append("start_ramp_down")
    elif state.ramp == "down" and power.is_compliant:
        events.append("end_ramp_down")
    is_waiting = any(line.state is LineState.PAUSED and not line.is_held for line in lines)
    if power.limit_w > state.limit_w and is_waiting:
        events.append("start_ramp_up")
    elif state.ramp == "up" and not is_waiting:
        events.append("end_ramp_up")
    return events


def _ramp(state: ReportState, events: Sequence[str], now: float) -> tuple[str, float | None]:
    """Return the direction in which the power moves after these events, and since when."""
    ramp = state.ramp
    since = state.ramp_since
    for event in events:
        if event.startswith("start_ramp_"):
            ramp = event.removeprefix("start_ramp_")
            since = now
        elif event.startswith("end_ramp_"):
            ramp = ""
            since = None
    return ramp, since


def _timers(state: ReportState, power: FloorPower) -> tuple[float | None, float | None]:
    """Return since when the power is above the target, and since when below."""
    if power.is_compliant:
        return None, state.under_since or power.now
    return state.over_since or power.now, None


def _breach(
    state: ReportState,
    power: FloorPower,
    own: tuple[Target, ...],
    lines: Sequence[Line],
    feed: str,
    over_since: float | None,
    under_since: float | None,
) -> tuple[Breach | None, list[dict[str, Any]]]:
    """Return the ongoing breach, and the messages about it."""
    found = state.breach
    correlation = _correlation(own, power.now)

    def alert(status: str, about: Breach) -> dict[str, Any]:
        return outgoing.breach(
            power,
            lines,
            feed=feed,
            status=status,
            breach_id=about.id,
            detected_at=about.since,
            correlation=correlation,
        )

    if found is None:
        if over_since is None or power.now - over_since < CONFIRM_S:
            return None, []
        begun = Breach(
            id=str(uuid.uuid4()), since=over_since, severity=outgoing.severity(power), before=tuple(lines)
        )
        return begun, [alert("active", begun)]
    if under_since is not None and power.now - under_since >= CONFIRM_S:
        # Compared with the lines when the breach began, which tells what was done about it.
        done = outgoing.enforcement(found.before, lines, feed=feed, breach_id=found.id, now=power.now)
        messages = [alert("resolved", found)]
        if done is not None:
            messages.append(done)
        return None, messages
    if found.severity == "warning" and not power.is_compliant and outgoing.severity(power) == "critical":
        worse = replace(found, severity="critical")
        return worse, [alert("escalated", worse)]
    return found, []


def _correlation(own: Sequence[Target], now: float) -> str:
    """Return the name of the target in force; the feed's own limit has none."""
    target = outgoing.in_force(own, now)
    if target is None:
        return "budget"
    return outgoing.name_of(target)


def write(state: ReportState, root: Path, *, name: str, now: float) -> None:
    """Append the messages of a tick to the outbox of the floor `name`, each a CloudEvent on its own line."""
    if not state.messages:
        return
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    correlation = _correlation(state.targets, now)
    rows = [
        outgoing.envelope(message["type"], message["data"], name=name, now=now, correlation=correlation)
        for message in state.messages
    ]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
