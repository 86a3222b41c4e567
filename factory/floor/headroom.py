"""Power over the budget and power that is free, from the samples of the node and the predictions of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, sqrt
from statistics import median

from factory.floor.budget import reserve_w
from factory.floor.lines import LineState
from factory.floor.plan import FloorView, LineView, PowerLimit, PowerSample, Settings

_DRAWS_POWER = frozenset({LineState.STARTING, LineState.RUNNING, LineState.PREEMPTING})
_NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution, for a median absolute deviation of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Position of the floor's power relative to its budget [W]."""

    limit_w: float
    hard_w: float
    reserve_w: float
    level_w: float
    """Power of the node once the actions that were already taken show."""
    free_w: float
    """Power that lines may add; it was free for the whole dwell, and is below zero while too much is used."""
    most_w: float
    """Power that lines could use if no other ran."""
    is_known: bool
    """False without a recent sample: then `level_w` is a prediction, and nothing may start under a budget."""

    @property
    def is_over(self) -> bool:
        """Return whether the power exceeds the budget."""
        return self.level_w > self.limit_w

    @property
    def to_shed_w(self) -> float:
        """Return the power to shed for the budget, reserve included [W]."""
        return self.level_w - (self.limit_w - self.reserve_w)

    @property
    def to_shed_hard_w(self) -> float:
        """Return the power to shed for the limit of the site, reserve included [W]."""
        return self.level_w - (self.hard_w - self.reserve_w)


def headroom(view: FloorView, limit: PowerLimit, now: float, settings: Settings) -> Headroom:
    """Return the headroom at a moment.

    Over the budget the lowest of the last samples counts, so that one bad sample sheds nothing; a budget that
    falls is compared with all of them and acts at once. For free power it is the highest of the dwell.
    """
    samples = view.power
    reserve = reserve_w(limit.limit_w, share=settings.reserve_share, power_sd_w=noise_w(samples))
    goal_w = limit.limit_w - reserve
    predicted_w = view.idle_w + sum(line.point.power_w for line in view.lines if line.state in _DRAWS_POWER)
    is_known = view.is_fresh and bool(samples) and samples[-1].t_s > now - settings.stale_s
    # Without a recent sample, predictions stand in for the meter.
    level_w = predicted_w
    free_w = goal_w - predicted_w
    if is_known:
        level_w = _level(view, now, settings)
        # The stricter of the two, since either may be too optimistic.
        free_w = min(free_w, _free_over_dwell(view, limit, now, settings) - reserve)
    most_w = goal_w - view.idle_w
    # Where the busiest node stays below the budget, no prediction of a line can be a reason to wait.
    if view.most_w <= _lowest_limit(view, limit, now, settings) - reserve:
        free_w = inf
        most_w = inf
    return Headroom(
        limit_w=limit.limit_w,
        hard_w=limit.hard_w,
        reserve_w=reserve,
        level_w=level_w,
        free_w=free_w,
        most_w=most_w,
        is_known=is_known or limit.limit_w == inf,
    )


def noise_w(samples: Sequence[PowerSample]) -> float:
    """Return the standard deviation of the measured power about its level [W].

    Differences of neighbours and their median make it blind to the steps that lines cause.
    """
    if len(samples) < 3:
        return 0.0
    changes_w = [abs(after.power_w - before.power_w) for before, after in pairwise(samples)]
    # A difference of two independent samples has twice their variance.
    return _NORMAL_MAD * median(changes_w) / sqrt(2.0)


def _level(view: FloorView, now: float, settings: Settings) -> float:
    """Return the lowest of the last samples, less the power of lines that were paused or are leaving [W]."""
    recent = [sample for sample in view.power if sample.t_s > now - settings.confirm_s]
    # With a tick longer than the window, the newest sample stands for it.
    recent = recent or [view.power[-1]]
    settled_s = recent[0].t_s - settings.settle_s
    paused = [line for line in view.lines if line.state is LineState.PAUSED and line.since_s > settled_s]
    # Samples that show the effect of every pause count alone: lines that go on may take what it left.
    shown_s = max((line.since_s for line in paused), default=-inf) + settings.settle_s
    recent = [sample for sample in recent if sample.t_s >= shown_s] or recent
    leaving_w = sum(line.point.power_w for line in view.lines if _is_leaving(line, now, settings))
    return min(sample.power_w - _unseen(paused, sample, settings) for sample in recent) - leaving_w


def _unseen(paused: Sequence[LineView], sample: PowerSample, settings: Settings) -> float:
    """Return the power that a sample still holds of lines that were paused since [W]."""
    settled_s = sample.t_s - settings.settle_s
    return sum(line.point.power_w for line in paused if line.since_s > settled_s)


def _is_leaving(line: LineView, now: float, settings: Settings) -> bool:
    """Return whether a line is about to end its attempt; one that takes too long counts as staying."""
    grace_s = settings.confirm_s + settings.settle_s
    return line.state is LineState.PREEMPTING and now - line.since_s < grace_s


def _lowest_limit(view: FloorView, limit: PowerLimit, now: float, settings: Settings) -> float:
    """Return the lowest budget of the dwell: one that has just risen is not free yet [W]."""
    return min([limit.limit_w, *(sample.limit_w for sample in _dwell(view, now, settings))])


def _dwell(view: FloorView, now: float, settings: Settings) -> list[PowerSample]:
    """Return the samples of the dwell."""
    return [sample for sample in view.power if sample.t_s > now - settings.dwell_s]


def _free_over_dwell(view: FloorView, limit: PowerLimit, now: float, settings: Settings) -> float:
    """Return the power that was free during the whole dwell, less what young lines have yet to use [W]."""
    window = _dwell(view, now, settings) or [view.power[-1]]
    # A budget that has just risen is not free yet: over the dwell the lower one of both counts.
    free_w = min(min(sample.limit_w, limit.limit_w) - sample.power_w for sample in window)
    return free_w - sum(line.point.upper_w for line in view.lines if _is_young(line, now, settings))


def _is_young(line: LineView, now: float, settings: Settings) -> bool:
    if line.state is LineState.RUNNING:
        return now - line.since_s < settings.warmup_s
    return line.state is LineState.STARTING
