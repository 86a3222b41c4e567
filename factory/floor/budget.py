"""Power budget over time: the least of site limit, schedule, and targets set by hand.

Only here the floor looks at the wall clock: schedules and targets are promises in UTC. A budget is looked up
anew at every tick and remembers nothing, so a clock that jumps changes the row in force and does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from math import inf

from factory.floor.plan import PowerLimit
from factory.floor.steps import Steps
from factory.runtime.decoding import Moment

_MOST_STEPS = 300
"""Steps that are searched for the next change: a day of rows of five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A budget set by hand. Times are seconds since 1970, UTC."""

    watts: float
    """Power [W]; infinite to lift earlier targets."""
    start: Moment
    end: Moment | None = None
    """First moment at which it no longer holds; None without an end."""
    source: str = "target"
    """Origin, for people: a name, or the message of a grid."""
    issued: Moment = 0.0
    """Time at which it was made; among targets in force the one that was made last counts."""
    is_hard: bool = False
    """True if in the end even lines of flex 0 are paused for it, as for the limit of the site."""


class Budget:
    """Power budget of a floor."""

    def __init__(
        self,
        *,
        site_w: float = inf,
        schedule: Sequence[tuple[float, float]] = (),
        targets: Sequence[Target] = (),
        ramp_w_per_s: float = inf,
    ) -> None:
        """Join the parts; a new budget is made when one of them changes.

        Args:
            site_w: Limit of the site, which is never exceeded knowingly [W].
            schedule: Time [s since 1970, UTC] and power [W] of each row, by rising time; rows hold until the
                next one.
            targets: Targets in the order in which they were made; of those in force the latest counts.
            ramp_w_per_s: Greatest change of schedule and targets that are known in advance [W/s].
        """
        self._site_w = site_w
        self._schedule = Steps(schedule, ramp_w_per_s=ramp_w_per_s)
        self._targets = Steps(latest_steps(targets), ramp_w_per_s=ramp_w_per_s)
        # The latest target wins here too, so one that is not hard lifts an earlier one that is.
        hard = [target if target.is_hard else replace(target, watts=inf) for target in targets]
        self._hard = Steps(latest_steps(hard), ramp_w_per_s=ramp_w_per_s)

    def at(self, time_s: float) -> PowerLimit:
        """Return the limits at a time [s since 1970, UTC]."""
        # The site's limit is constant, so it needs no ramp.
        limit_w = min(self._site_w, self._schedule.ramped_at(time_s), self._targets.ramped_at(time_s))
        hard_w = min(self._site_w, self._hard.ramped_at(time_s))
        return PowerLimit(limit_w=limit_w, hard_w=hard_w)

    def describe(self, time_s: float) -> str:
        """Return the budget now and next, such as `60 W (schedule) until 14:00 UTC, then 120 W`."""
        now_w = self._step_at(time_s)
        text = f"{power_text(now_w)}{self._origin(time_s)}"
        change_s = self._next_change(time_s)
        if change_s == inf:
            return text
        then_w = self._step_at(change_s)
        return f"{text} until {_moment(change_s, time_s)}, then {power_text(then_w)}"

    def _step_at(self, time_s: float) -> float:
        return min(self._site_w, self._schedule.at(time_s), self._targets.at(time_s))

    def _origin(self, time_s: float) -> str:
        """Return the part that sets the budget, in parentheses; nothing without a budget."""
        now_w = self._step_at(time_s)
        if now_w == inf:
            return ""
        if now_w == self._targets.at(time_s):
            return " (target)"
        if now_w == self._schedule.at(time_s):
            return " (schedule)"
        return " (site limit)"

    def _next_change(self, time_s: float) -> float:
        """Return the next time at which the budget has another value; infinity if there is none soon."""
        now_w = self._step_at(time_s)
        for _ in range(_MOST_STEPS):
            time_s = min(self._schedule.next_time(time_s), self._targets.next_time(time_s))
            if time_s == inf or self._step_at(time_s) != now_w:
                return time_s
        return inf


def reserve_w(limit_w: float, *, share: float, power_sd_w: float) -> float:
    """Return the part of the budget that stays free [W]: a share, or 2 sigma of the measured power."""
    if limit_w == inf:
        return 0.0
    return max(share * limit_w, 2.0 * power_sd_w)


def latest_steps(targets: Sequence[Target]) -> Iterable[tuple[float, float]]:
    """Yield steps with the value of the latest target in force, and infinity where none is."""
    # Sweep over the moments at which the latest target can change: every start and every end.
    starts: dict[float, list[int]] = {}
    moments: set[float] = set()
    for index, target in enumerate(targets):
        starts.setdefault(target.start, []).append(index)
        moments.add(target.start)
        if target.end is not None:
            moments.add(target.end)
    # The heap holds the targets that have begun, the latest on top; those that ended leave it from there.
    begun: list[int] = []
    for moment in sorted(moments):
        for index in starts.get(moment, ()):
            # heapq pops the smallest item, so the index of the latest target is stored negative.
            heappush(begun, -index)
        while begun and _has_ended(targets[-begun[0]], moment):
            heappop(begun)
        if begun:
            yield moment, targets[-begun[0]].watts
        else:
            yield moment, inf


def _has_ended(target: Target, time_s: float) -> bool:
    return target.end is not None and target.end <= time_s


def power_text(watts: float) -> str:
    """Return a power for people; `no limit` if it is infinite."""
    if watts == inf:
        return "no limit"
    return f"{watts:g} W"


def _moment(time_s: float, now_s: float) -> str:
    """Return a time of day in UTC, with the date if it is not today."""
    # Seconds and the date are shown only where they matter.
    moment = datetime.fromtimestamp(time_s, UTC)
    text = f"{moment:%H:%M} UTC"
    if moment.second:
        text = f"{moment:%H:%M:%S} UTC"
    if moment.date() != datetime.fromtimestamp(now_s, UTC).date():
        text = f"{moment:%d %b %Y} {text}"
    return text
