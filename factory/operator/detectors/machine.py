"""Detectors of faults of the floor and its machine: power, meter, disk, tracker, clock."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum, inf

from factory.operator.detectors.base import finding, number
from factory.operator.thresholds import Thresholds
from factory.operator.view import View
from factory.operator.words import Fault, Finding, Severity


def over_budget(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find power above the budget for some seconds, by more than a little."""
    samples = view.meter.samples
    if not samples or view.meter.limit_w == inf:
        return
    recent = [sample for sample in samples if sample[0] > samples[-1][0] - limits.budget_s - 0.5]
    excess_w = [power_w - limit_w for _, power_w, limit_w in recent]
    # Half a second of play, as ticks do not fall on whole seconds.
    is_lasting = recent[-1][0] - recent[0][0] >= limits.budget_s - 0.5 and min(excess_w) > 0.0
    mean_w = fsum(excess_w) / len(excess_w)
    if is_lasting and mean_w > limits.budget_share * view.meter.limit_w:
        yield finding(
            Fault.OVER_BUDGET,
            None,
            number("time above the budget", recent[-1][0] - recent[0][0], "s", limits.budget_s),
            number(
                "excess", mean_w, "W", limits.budget_share * view.meter.limit_w, view.now_s - samples[-1][0]
            ),
            severity=Severity.CRITICAL,
        )


def meter(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find a meter that is silent, less trustworthy than before, or in conflict with the books."""
    seen = view.meter
    if not seen.samples:
        return
    if seen.sample_age_s > max(limits.stale_s, 3.0 * view.host.tick_s):
        yield finding(
            Fault.METER,
            None,
            number("age of the reading", seen.sample_age_s, "s", limits.stale_s, seen.sample_age_s),
            number("age in ticks", seen.sample_age_s / max(view.host.tick_s, 1e-9), "ticks", 3.0),
            severity=Severity.CRITICAL,
        )
    elif seen.tier_rank > seen.best_tier_rank:
        yield finding(
            Fault.METER,
            None,
            number("rank of the tier", seen.tier_rank, "", seen.best_tier_rank),
            number("ranks lost", seen.tier_rank - seen.best_tier_rank, "", 1),
        )
    elif _is_dead(view):
        yield finding(
            Fault.METER,
            None,
            number("readings without power", 3, "readings", 3),
            number("CPU use", view.host.cores_busy, "cores", 0.5),
            severity=Severity.CRITICAL,
        )


def _is_dead(view: View) -> bool:
    """Return whether the meter shows no power on a machine that works."""
    recent = view.meter.samples[-3:]
    return len(recent) == 3 and max(power for _, power, _ in recent) <= 0.0 and view.host.cores_busy > 0.5


def disk(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find a disk that is nearly full, by share and by size."""
    host = view.host
    share = host.disk_free_bytes / max(host.disk_bytes, 1.0)
    if share < limits.disk_share and host.disk_free_bytes < limits.disk_bytes:
        yield finding(
            Fault.DISK,
            None,
            number("free share", share, "share", limits.disk_share),
            number("free space", host.disk_free_bytes, "byte", limits.disk_bytes),
            severity=Severity.CRITICAL,
        )


def ledger(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find lines whose metrics do not reach the tracking server: a large outbox that grows for long."""
    for line in view.lines:
        if not line.outbox or not line.state.is_active:
            continue
        first_s, first = line.outbox[0]
        last_s, size = line.outbox[-1]
        # A short outage is the outbox's purpose.
        if last_s - first_s >= limits.outbox_s and size > first and size > limits.outbox_bytes:
            yield finding(
                Fault.LEDGER,
                line,
                number("outbox grows for", last_s - first_s, "s", limits.outbox_s),
                number("outbox", size, "byte", limits.outbox_bytes, view.now_s - last_s),
            )


def floor_died(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find that the last process of the floor died, and for how long nobody ran it."""
    if view.floor_gap_s > 0.0 and view.floor_age_s < 60.0:
        yield finding(
            Fault.FLOOR_DIED,
            None,
            number("ends without a record", 1, "processes", 1, view.floor_age_s),
            number("time without a floor", view.floor_gap_s, "s", 0.0, view.floor_age_s),
        )


def clock(view: View, limits: Thresholds) -> Iterator[Finding]:
    """Find steps of the wall clock, and messages of a grid that came twice."""
    host = view.host
    # Measured against the tick as well: a process that was stopped reads two clocks far apart.
    step_s = abs(host.clock_jump_s)
    if step_s > limits.clock_s and step_s > limits.clock_ticks * host.tick_s:
        yield finding(
            Fault.CLOCK,
            None,
            number("step of the wall clock", step_s, "s", limits.clock_s),
            number("step in ticks", step_s / host.tick_s, "ticks", limits.clock_ticks),
        )
    if view.num_duplicate_targets > 0:
        yield finding(
            Fault.CLOCK,
            None,
            number("targets that came twice", view.num_duplicate_targets, "targets", 1),
            number("targets with an effect", 0, "targets", 1),
            severity=Severity.INFO,
        )
