"""The cost of reaching the return threshold, where some runs never did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.comparison.estimate import estimate
from factory.comparison.groups import Group
from factory.energy.kpi import kaplan_meier_median
from factory.energy.types import Interval
from factory.metric_keys import metric


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of reaching the return threshold: the median over runs; runs that never did are censored."""

    median: float
    """Kaplan-Meier median, or a lower bound of it if half of the runs never reached the threshold."""
    is_bound: bool
    """True if `median` is only a lower bound."""
    source: Interval | None = None
    """The median with the bounds of the energy source; None for seconds."""


@dataclass(frozen=True, kw_only=True)
class ThresholdCost:
    """Number of runs in a group that reached the return threshold in training, and their cost."""

    threshold: float
    reached: int
    runs: int
    seconds: Cost
    joules: Cost | None
    """None if a run was not metered."""


def threshold_cost(group: Group) -> ThresholdCost | None:
    """Return the cost of reaching the threshold, None if the task has none."""
    threshold = group.runs[0].threshold
    if threshold is None:
        return None
    # Runs that never got there stay in as censored: leaving them out would flatter the group.
    reached = [run.has_reached for run in group.runs]
    # Censored runs enter with the energy they spent without reaching the threshold.
    spent_j = [run.spent_j for run in group.runs]
    joules = None
    if all(map(math.isfinite, spent_j)):
        joules = _cost(spent_j, reached, relative=_relative_bounds(group))
    return ThresholdCost(
        threshold=threshold,
        reached=sum(reached),
        runs=len(reached),
        seconds=_cost([run.spent_s for run in group.runs], reached),
        joules=joules,
    )


def _relative_bounds(group: Group) -> Interval | None:
    """Return the bounds of the energy source relative to its value, None if they are not on record."""
    per_token = estimate(group, metric("factory/joules_per_token"))
    if per_token is None or per_token.source is None:
        return None
    # The same relative error holds for all metrics proportional to the run's energy.
    return per_token.source.map(lambda joules: joules / per_token.seeds.value)


def _cost(spent: Sequence[float], reached: Sequence[bool], *, relative: Interval | None = None) -> Cost:
    median = kaplan_meier_median(spent, is_reached=reached)
    is_bound = not math.isfinite(median)
    if is_bound:
        # Every run would have spent at least this, so the median is at least the median of it.
        median = kaplan_meier_median(spent, is_reached=[True] * len(spent))
    # Energy to the threshold has the relative error of all joules of the run.
    source = None
    if relative:
        source = relative.map(lambda share: share * median)
    return Cost(median=median, is_bound=is_bound, source=source)
