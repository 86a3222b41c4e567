"""The figures of a group, with intervals over seeds and of the energy gauge.

Two groups against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from factory.comparison.bootstrap import difference_interval, mean_interval, ratio_interval
from factory.comparison.groups import Group
from factory.comparison.runs import ComparedRun
from factory.energy.kpi import kaplan_meier_median
from factory.energy.types import Interval


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that is compared."""

    key: str
    """Metric key."""
    label: str
    unit: str = ""
    is_cost: bool = False
    """Whether less is better."""

    @property
    def is_return(self) -> bool:
        """Whether it may be negative: returns are compared by their difference, all else by the ratio."""
        return self.key.endswith("return_mean")

    @property
    def is_energy(self) -> bool:
        """Whether it comes from an energy gauge, as cost and carbon do."""
        return self.unit.startswith("J") or self.key.endswith("_per_mtoken")

    def of(self, run: ComparedRun) -> float:
        """Return a run's value, NaN if it has none."""
        return run.metrics.get(self.key, math.nan)

    def at_bound(self, run: ComparedRun, end: str) -> float:
        """Return the value if the gauge were at its bound `lo` or `hi`, NaN if that is not on record."""
        total_j = run.metrics.get("energy/total_j", 0.0)
        return (
            self.of(run) * run.metrics.get(f"energy/total_j_{end}", math.nan) / total_j
            if total_j
            else math.nan
        )


FIGURES = (
    Figure(key="eval/return_mean", label="Return, evaluation"),
    Figure(key="train/return_mean", label="Return, training"),
    Figure(key="factory/tokens_per_s", label="Control tokens", unit="tokens/s"),
    Figure(key="factory/env_steps_per_s", label="Env steps", unit="steps/s"),
    Figure(key="factory/joules_per_token", label="Energy per token", unit="J/token", is_cost=True),
    Figure(key="factory/cpu_s_per_token", label="CPU time per token", unit="s/token", is_cost=True),
    Figure(key="factory/usd_per_mtoken", label="USD per M tokens", is_cost=True),
    Figure(key="factory/gco2e_per_mtoken", label="g CO2e per M tokens", is_cost=True),
)
BY_KEY = {figure.key: figure for figure in FIGURES}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of a group."""

    num_seeds: int
    seeds: Interval
    """Mean with its 95 % interval over seeds; bounds are NaN for one seed."""
    gauge: Interval | None = None
    """Mean with the bounds of the energy gauge, which errs alike in all seeds: they do not shrink with their
    number.
    """
    both: Interval | None = None
    """Mean, from the lowest interval over seeds to the highest as the gauge errs between its bounds."""


def estimate(group: Group, figure: Figure) -> Estimate | None:
    """Return a figure of the group, None if no run has it."""
    if not (values := group.by_seed(figure.of)):
        return None
    seeds = mean_interval(values)
    low, high = _at_bound(group, figure, "lo"), _at_bound(group, figure, "hi")
    if not figure.is_energy or not len(low) == len(high) == len(values):
        return Estimate(num_seeds=len(values), seeds=seeds)
    gauge = Interval(seeds.value, fmean(low), fmean(high))
    both = Interval(seeds.value, max(0.0, mean_interval(low).lo), mean_interval(high).hi)
    return Estimate(num_seeds=len(values), seeds=seeds, gauge=gauge, both=both if len(values) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of reaching the return threshold: the median over runs; those that never did are censored."""

    median: float
    """Kaplan-Meier median; where half of the runs never got there, what the median is above."""
    is_bound: bool
    """Whether the median is only known to be above that."""
    gauge: Interval | None = None
    """The median with the bounds of the energy gauge; None for seconds."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """How many runs of a group reached the return threshold in training, and at what cost."""

    threshold: float
    reached: int
    runs: int
    seconds: Cost
    joules: Cost | None
    """None if a run was not metered."""


def reach(group: Group) -> Threshold | None:
    """Return what it took to reach the threshold, None if the task has none."""
    threshold = group.runs[0].threshold
    if threshold is None:
        return None
    reached = [run.has_reached for run in group.runs]
    joules = [run.spent_j for run in group.runs]
    return Threshold(
        threshold=threshold,
        reached=sum(reached),
        runs=len(reached),
        seconds=_cost([run.spent_s for run in group.runs], reached),
        joules=_cost(joules, reached, gauge=_relative_gauge(group))
        if all(map(math.isfinite, joules))
        else None,
    )


def _relative_gauge(group: Group) -> Interval | None:
    """Return the gauge's mean bounds relative to its figure, None if they are not on record."""
    per_token = estimate(group, BY_KEY["factory/joules_per_token"])
    if per_token is None or per_token.gauge is None:
        return None
    return per_token.gauge.map(lambda joules: joules / per_token.seeds.value)


def _cost(spent: Sequence[float], reached: Sequence[bool], *, gauge: Interval | None = None) -> Cost:
    median = kaplan_meier_median(spent, is_reached=reached)
    if is_bound := not math.isfinite(median):
        # Every run would have spent at least this, so the median is at least the median of it.
        median = kaplan_meier_median(spent, is_reached=[True] * len(spent))
    bounds = gauge.map(lambda share: share * median) if gauge else None
    return Cost(median=median, is_bound=is_bound, gauge=bounds)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The second group against the first in one figure."""

    figure: Figure
    interval: Interval
    """Difference of returns, ratio of all else; bounds are NaN if a group has one seed."""
    is_gauge_shared: bool = True
    """Whether the gauge's error is common to both groups and so drops out of the ratio."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out "no difference"."""
        neutral = 0.0 if self.figure.is_return else 1.0
        return not math.isnan(self.interval.lo) and neutral not in self.interval


def contrast(first: Group, second: Group, figure: Figure) -> Contrast | None:
    """Return the second group against the first, None if one of them lacks the figure."""
    before, after = first.by_seed(figure.of), second.by_seed(figure.of)
    if not before or not after:
        return None
    if figure.is_return:
        return Contrast(figure=figure, interval=difference_interval(before, after))
    ratio = ratio_interval(before, after)
    if not figure.is_energy or _share_gauge(first, second):
        return Contrast(figure=figure, interval=ratio)
    low = [_at_bound(group, figure, "lo") for group in (first, second)]
    high = [_at_bound(group, figure, "hi") for group in (first, second)]
    if not all((*low, *high)):
        return None  # another gauge whose error is not on record: the ratio would be of unknown worth
    lowest, highest = ratio_interval(high[0], low[1]).lo, ratio_interval(low[0], high[1]).hi
    return Contrast(figure=figure, interval=Interval(ratio.value, lowest, highest), is_gauge_shared=False)


def _at_bound(group: Group, figure: Figure, end: str) -> list[float]:
    return group.by_seed(lambda run: figure.at_bound(run, end))


def _share_gauge(first: Group, second: Group) -> bool:
    return all(first.tag(key) == second.tag(key) for key in ("energy.tier", "energy.boundary", "device"))


def pareto_front(points: Sequence[tuple[float, float]], *, is_cost: bool) -> list[int]:
    """Return the indices of points (x, y) on the Pareto front, by falling x if a gain, rising if a cost.

    Args:
        points: Pairs of which y is a gain.
        is_cost: Whether x is a cost.
    """
    sign = 1.0 if is_cost else -1.0
    order = sorted(range(len(points)), key=lambda index: (sign * points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
