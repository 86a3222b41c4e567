"""Messages of DSX Flex 1.7 that a floor sends: its power state, breaches, and what it did about them.

Names and values are those of the public specification, which knows nodes, GPUs and chassis as resources, but
no jobs: a line is reported as a `node` of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from factory.floor.budget import Target
from factory.floor.lines import Line, LineState
from factory.grid.intake import SOURCE
from factory.grid.messages import BREACH, ENFORCEMENT, POWER_STATE
from factory.grid.times import text_of

_SPEC_VERSION = "1.0.2"
_ACTION = "suspend"
"""A line that is shed is paused or pre-empted, never slowed down."""
CRITICAL_EXCESS = 0.2
"""Power above the target, relative to it, from which on a breach is critical."""


@dataclass(frozen=True, kw_only=True)
class FloorPower:
    """Power of a floor at a moment, as the grid sees it."""

    now: float
    """Seconds since 1970, UTC."""
    power_w: float
    """By the bound on which the budget is held [W]."""
    limit_w: float
    """Budget in force [W]."""
    idle_w: float
    """Power that stays without any line [W]."""
    most_w: float
    """Power with all cores busy [W]."""

    @property
    def is_compliant(self) -> bool:
        """True if the power is within the budget."""
        return self.power_w <= self.limit_w


def envelope(kind: str, data: dict[str, Any], *, name: str, now: float, correlation: str) -> dict[str, Any]:
    """Return a CloudEvent.

    Args:
        kind: type of the message.
        data: its content.
        name: name of the floor, as it is registered.
        now: time of the message.
        correlation: name of the target that it is about.
    """
    # Whoever carries out what a breach asks for is the infrastructure, the rest is the agent.
    role = "dsx-flex-agent"
    if kind == ENFORCEMENT:
        role = "infra"
    # The trace context is that of a request that nobody else traces.
    trace = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"
    return {
        "specversion": _SPEC_VERSION,
        "id": str(uuid.uuid4()),
        "source": f"//grid/v1/{role}/{name}",
        "type": kind,
        "time": text_of(now),
        "datacontenttype": "application/json",
        "subject": kind.split(".")[1],
        "correlationid": as_uuid(correlation),
        "traceparent": trace,
        "data": data,
    }


def as_uuid(name: str) -> str:
    """Return a name that is a UUID; others, such as those of OpenADR, have one that is always the same."""
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def in_force(targets: Sequence[Target], now: float) -> Target | None:
    """Return the target that counts at a moment, the latest of those in their interval; None if none is."""
    for target in reversed(targets):
        if target.start <= now and (target.end is None or now < target.end):
            return target
    return None


def power_state(
    power: FloorPower, targets: Sequence[Target], *, feed: str, event: str, since: float | None
) -> dict[str, Any]:
    """Return the data of a power state.

    Args:
        power: power of the floor.
        targets: targets of the budget that have not ended; those of the grid are listed.
        feed: name of the floor's feed.
        event: cause of the message.
        since: start of the present ramp; None without one.
    """
    own = [target for target in targets if target.source.startswith(SOURCE)]
    obeyed = in_force(own, power.now)
    # A target that takes another one back has no power that could be listed.
    listed = [target for target in own if isfinite(target.watts)]
    state = {
        "metadata": {
            "power_minimum": _power(power.idle_w),
            "power_maximum": _power(power.most_w),
            "default_constraint": _power(power.most_w),
        },
        "targets": [_target(target, is_active=target is obeyed) for target in listed],
        "calculated_load": _power(power.power_w),
        "in_flight": since is not None,
        "event": event,
        "compliant": power.is_compliant,
    }
    if since is not None:
        state["power_event_start_time"] = text_of(since)
    return {"type": POWER_STATE, "data": {"snapshot_time": text_of(power.now), "feeds": {feed: state}}}


def breach(
    power: FloorPower,
    lines: Sequence[Line],
    *,
    feed: str,
    status: str,
    breach_id: str,
    detected_at: float,
    correlation: str,
) -> dict[str, Any]:
    """Return the data of a breach: how far the power is above the target, and which lines could go."""
    details: dict[str, Any] = {"breach_id": breach_id, "detected_at": text_of(detected_at)}
    if status == "resolved":
        details["resolved_at"] = text_of(power.now)
    running = [line for line in lines if line.state is LineState.RUNNING and line.flex > 0]
    # The most flexible line is the first to go.
    ordered = sorted(running, key=lambda line: (-line.flex, line.priority, line.id))
    hints = [
        {**_resource(line), "action": _ACTION, "priority": place}
        for place, line in enumerate(ordered, start=1)
    ]
    data: dict[str, Any] = {
        "feed_tag": feed,
        "status": status,
        "severity": severity(power),
        "breach": details,
        "target": {"correlation_id": as_uuid(correlation), "load_constraint": _power(power.limit_w)},
        "measured_load": _power(power.power_w),
        # A floor switches nothing off that is not its own.
        "infrastructure_actions": [],
    }
    if status != "resolved":
        data["shed_hints"] = hints
    return {"type": BREACH, "data": data}


def severity(power: FloorPower) -> str:
    """Return `critical` for more than a fifth above the target, else `warning`."""
    if power.power_w > (1.0 + CRITICAL_EXCESS) * power.limit_w:
        return "critical"
    return "warning"


def enforcement(
    before: Sequence[Line], after: Sequence[Line], *, feed: str, breach_id: str, now: float
) -> dict[str, Any] | None:
    """Return the data of an enforcement: what became of each line that ran; None if none did.

    Args:
        before: lines when the breach was detected.
        after: the same lines later.
        feed: name of the floor's feed.
        breach_id: identity of the breach.
        now: time of the enforcement.
    """
    by_id = {line.id: line for line in after}
    results = [
        {**_resource(line), "requested_action": _ACTION, **_fate(by_id.get(line.id))}
        for line in before
        if line.state is LineState.RUNNING
    ]
    if not results:
        return None
    data = {
        "breach_id": breach_id,
        "feed_tag": feed,
        "action": "applied",
        # It is sent when the power is back below the target.
        "code": "success",
        "results": results,
        "timestamp": text_of(now),
    }
    return {"type": ENFORCEMENT, "data": data}


def _fate(line: Line | None) -> dict[str, str]:
    """Return the outcome of a breach for a line that ran when it began."""
    if line is None or line.state is not LineState.RUNNING:
        state = "gone" if line is None else line.state.value
        return {"code": "applied", "message": f"the line is {state}"}
    if line.flex <= 0:
        return {"code": "skipped", "message": "the line tolerates no slowdown"}
    return {"code": "skipped", "message": "the budget was met without it"}


def _resource(line: Line) -> dict[str, str]:
    return {"resource_id": f"line-{line.id}", "resource_type": "node"}


def _target(target: Target, *, is_active: bool) -> dict[str, Any]:
    interval = {"start_time": text_of(target.start)}
    if target.end is not None:
        interval["end_time"] = text_of(target.end)
    return {
        "active": is_active,
        "load_constraint": _power(target.watts),
        "interval": interval,
        "strategy": {"best_effort": not target.is_hard},
        "correlation_id": as_uuid(name_of(target)),
    }


def name_of(target: Target) -> str:
    """Return the name under which the sender of a target asks about it."""
    return target.source.removeprefix(SOURCE).strip() or SOURCE


def _power(watts: float) -> dict[str, Any]:
    if watts == inf:
        # No limit is one that nothing reaches.
        watts = 1e12
    return {"value": round(watts, 3), "unit": "watt"}
