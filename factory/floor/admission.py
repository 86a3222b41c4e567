"""Lines that wait: the order in which they are served, and the constraint that keeps each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor, inf, isfinite

from factory.floor.headroom import Headroom
from factory.floor.lines import ExitClass, LineState
from factory.floor.plan import Action, FloorView, LineView, Settings, Verb
from factory.floor.room import Room

WINDOW_S = 10.0
"""Time over which the power is averaged that a target bounds; the limit of the site holds at every moment."""
_WAITS = frozenset({LineState.QUEUED, LineState.PAUSED})
_GOLDEN = 0.6180339887
"""Multiples of the golden ratio, modulo 1, are spread evenly: neighbouring lines get different delays."""
_HOUR_S = 3600.0
_LONGEST_BACKOFF = 6
_AFTER = {
    ExitClass.CRASH: "a crash",
    ExitClass.OOM: "running out of memory",
    ExitClass.KILLED: "being killed",
    ExitClass.PREEMPTED: "a pre-emption",
    ExitClass.STALLED: "a stall",
    ExitClass.DIVERGED: "a divergence",
    ExitClass.LOST: "being lost",
}


@dataclass(kw_only=True)
class Admission:
    """Result of a look at the lines that wait."""

    first: LineView | None = None
    """Line that is served next, now or when the stagger interval is over."""
    is_due: bool = False
    """True if `first` starts or resumes now."""
    blocked: LineView | None = None
    """First line in the order that lacks a resource."""
    head: LineView | None = None
    """First line in the queue that lacks a resource; `blocked` may be a paused line before it."""
    lack: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Cores, memory, GPUs and watts that `head` lacks; positive where it does."""
    is_yielding: bool = False
    """True if a line is making room for another."""
    is_backfill: bool = False
    """True if `first` comes after `blocked` in the order."""
    waiting: dict[int, str] = field(default_factory=dict)


def admit(view: FloorView, room: Room, power: Headroom, now: float, settings: Settings) -> Admission:
    """Serve the lines in order and tell why each of the others waits."""
    result = Admission(is_yielding=_is_any_leaving(view, now, settings))
    # First who may take part at all, then the order of those, then the resources for each in turn.
    ready: list[LineView] = []
    for line in view.lines:
        if line.state not in _WAITS:
            continue
        reason = _not_ready(line, view, power, now, settings)
        if reason:
            result.waiting[line.id] = reason
        else:
            ready.append(line)
    ready.sort(key=_service_order(now, settings))
    for line in ready:
        reason = _serve(line, room, result, view.last_start_s, now, settings)
        if reason:
            result.waiting[line.id] = reason
    return result


def _not_ready(line: LineView, view: FloorView, power: Headroom, now: float, settings: Settings) -> str:
    """Return the reason for which a line takes no part in the choice; empty if it does."""
    if line.is_held:
        return "paused by a user"
    if view.bar.holds(line):
        return view.bar.reason
    if line.state is LineState.QUEUED:
        if view.is_draining:
            return "the floor is draining: no more lines start"
        if line.not_before_s > now:
            after = ""
            if line.exit_class in _AFTER:
                after = f" after {_AFTER[line.exit_class]}"
            return f"retry in {line.not_before_s - now:.0f} s{after}"
    if not power.is_known:
        return "the meter is silent: under a budget nothing starts until it reports again"
    if power.is_over:
        return f"the floor uses {power.level_w:.1f} W, over its budget of {power.limit_w:.1f} W"
    # Each pause in the last hour doubles the wait: a line whose power is underestimated must not flap.
    pauses = sum(time_s > now - _HOUR_S for time_s in line.shed_s)
    backoff = 2 ** min(max(0, pauses - 1), _LONGEST_BACKOFF)
    rest_s = settings.dwell_s * backoff - (now - line.since_s)
    if line.state is LineState.PAUSED and rest_s > 0.0:
        return f"paused to keep the budget; resumes in {rest_s:.0f} s at the earliest"
    return ""


def _service_order(now: float, settings: Settings) -> Callable[[LineView], tuple[float, ...]]:
    """Return a key: aged priority, then paused lines, then the earliest deadline that can be met."""

    def key(line: LineView) -> tuple[float, ...]:
        # Whole steps of age, so that lines submitted in the same hours keep their other order.
        aged = line.priority + floor(max(0.0, now - line.submitted_s) / settings.ageing_s)
        # Paused lines come first, the least flexible before the others.
        rank = 4
        if line.state is LineState.PAUSED:
            rank = line.flex
        # The id breaks ties, so that the order is the same in every tick.
        return (-aged, rank, _deadline(line, now), line.submitted_s, line.id)

    return key


def _deadline(line: LineView, now: float) -> float:
    """Return the deadline of a line that can still meet it, as far as its speed is known; else infinity."""
    if line.deadline_s is None:
        return inf
    needed_s = 0.0
    if line.point.tokens_per_s > 0.0 and isfinite(line.remaining_tokens):
        needed_s = line.remaining_tokens / line.point.tokens_per_s
    # A deadline that is lost anyway must not push aside lines that can still meet theirs.
    if now + needed_s > line.deadline_s:
        return inf
    return line.deadline_s


def _serve(
    line: LineView, room: Room, result: Admission, last_start_s: float, now: float, settings: Settings
) -> str:
    """Choose a line, or return the reason for which it waits."""
    impossible = room.impossible(line)
    if impossible:
        return impossible
    obstacle = room.obstacle(line)
    if obstacle:
        # Lines after the first blocked one may still fit: that is backfill, and it ends with its patience.
        if result.blocked is None:
            result.blocked = line
        if result.head is None and line.state is LineState.QUEUED:
            result.head = line
            result.lack = room.deficit(line)
        return obstacle
    # A large line would starve if small ones took every bit of room that appears.
    head = result.blocked
    if head is not None and now - head.since_s > settings.patience_s:
        return f"line {head.id} has waited for {(now - head.since_s) / 60.0:.0f} min and is served first"
    if head is not None and result.is_yielding:
        return f"line {head.id} is served first; another line makes room for it"
    if result.first is not None:
        # Many lines may wait for this, so the sentence does not change with the line that is next.
        return "starts are staggered; others come first"
    # One line a tick; the stagger interval decides when the next one may follow.
    result.first = line
    result.is_backfill = head is not None
    room.take(line)
    wait_s = last_start_s + _gap(line, settings) - now
    if wait_s > 0.0:
        return f"starts are staggered; next in {wait_s:.1f} s"
    result.is_due = True
    return ""


def _is_any_leaving(view: FloorView, now: float, settings: Settings) -> bool:
    """Return whether a line is pre-empted, or was so recently that its resources do not show as free yet."""
    # Free power counts only after it was free for a whole dwell, so what was freed is invisible for as long.
    visible_s = now - max(settings.dwell_s, WINDOW_S) - settings.settle_s
    return any(
        line.state is LineState.PREEMPTING or (line.preempted_s and line.preempted_s[-1] > visible_s)
        for line in view.lines
    )


def _gap(line: LineView, settings: Settings) -> float:
    """Return the time from the last start to that of a line; power rises no faster than the ramp."""
    # Taken from the id and not drawn at random: the same floor makes the same plan.
    jitter = line.id * _GOLDEN % 1.0
    return max(settings.stagger_s * (1.0 + jitter / 2.0), line.point.upper_w / settings.ramp_w_per_s)


def start(line: LineView, now: float) -> Action:
    """Return the start or resume of a line."""
    if line.state is LineState.PAUSED:
        verb = Verb.RESUME
        reason = f"power was free again; paused for {now - line.since_s:.0f} s"
    else:
        verb = Verb.START
        reason = f"first in the queue, at priority {line.priority}; {line.point.upper_w:.1f} W at most"
    return Action(
        verb=verb,
        line=line.id,
        reason=reason,
        predicted_w=line.point.power_w,
        predicted_sd_w=line.point.power_sd_w,
    )
