"""The metrics of a group, with intervals over seeds and of the energy source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from factory.comparison.bootstrap import mean_interval
from factory.comparison.groups import Group
from factory.comparison.runs import ComparedRun
from factory.energy.types import Interval
from factory.intervals import share_interval
from factory.metric_keys import Metric, metric

COMPARED = tuple(
    metric(key)
    for key in (
        "eval/return_mean",
        "train/return_mean",
        "eval/success_rate",
        "train/success_rate",
        "eval/fall_rate",
        "eval/velocity_rms_m_per_s",
        "factory/tokens_per_s",
        "factory/env_steps_per_s",
        "time/wall_s",
        "energy/total_j",
        "factory/joules_per_token",
        "factory/cpu_s_per_token",
        "factory/usd",
        "factory/gco2e",
        "factory/usd_per_mtoken",
        "factory/gco2e_per_mtoken",
    )
)
"""Metrics that are compared, in the order of the table."""

_SKILLS = 6
"""Metrics of `COMPARED` that come before those that tasks add."""
_DETAILS = ("eval/return_std", "eval/return_ci95", "eval/episode_length_mean", "eval/episodes")
"""Metrics of an evaluation that say how to read others."""


def compared_metrics(runs: Sequence[ComparedRun]) -> tuple[Metric, ...]:
    """Return `COMPARED`, with all else that evaluations of these runs found in its place."""
    known = {found.key for found in COMPARED}
    found = {key: None for run in runs for key in run.metrics if key.startswith("eval/")}
    own = [metric(key) for key in found if key not in known and key not in _DETAILS]
    return (*COMPARED[:_SKILLS], *own, *COMPARED[_SKILLS:])


def value_of(run: ComparedRun, compared: Metric) -> float:
    """Return a run's value, NaN if it has none."""
    return run.metrics.get(compared.key, math.nan)


def at_bound(group: Group, compared: Metric, end: str) -> list[float]:
    """Return the value of every seed if the energy source were at its bound `lo` or `hi`.

    Seeds without that bound on record are left out.
    """

    def bound(run: ComparedRun) -> float:
        total_j = run.metrics.get("energy/total_j", 0.0)
        if not total_j:
            return math.nan
        # Metrics proportional to the total energy inherit its relative error.
        return value_of(run, compared) * run.metrics.get(f"energy/total_j_{end}", math.nan) / total_j

    # Missing bounds are NaN, and `by_seed` leaves those seeds out.
    return group.by_seed(bound)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric of a group."""

    num_seeds: int
    seeds: Interval
    """Mean with its 95 % interval over seeds; bounds are NaN for one seed."""
    source: Interval | None = None
    """Mean with the bounds of the energy source, which errs alike in all seeds: they do not shrink with
    their number.
    """
    episodes: Interval | None = None
    """Share of one run's evaluation with its 95 % interval over `num_episodes`; None of other metrics."""
    num_episodes: int = 0
    both: Interval | None = None
    """Mean, from the lowest interval over seeds to the highest as the source errs between its bounds."""


def estimate(group: Group, compared: Metric) -> Estimate | None:
    """Return a metric of the group, None if no run has it."""
    # Seeds are the sample; runs that repeat one are averaged before.
    values = group.by_seed(lambda run: value_of(run, compared))
    if not values:
        return None
    seeds = mean_interval(values, is_signed=compared.is_signed)
    if compared.unit == "%":
        # A share ends at one.
        seeds = Interval(seeds.value, seeds.lo, min(seeds.hi, 1.0))
        metrics = group.runs[0].metrics
        over = share_interval(metrics, compared.key)
        # Of several runs, the interval over seeds holds the spread of their episodes, too.
        if len(group.runs) == 1 and over:
            episodes = round(metrics["eval/episodes"])
            return Estimate(num_seeds=1, seeds=seeds, episodes=over, num_episodes=episodes)
    if not compared.is_energy:
        return Estimate(num_seeds=len(values), seeds=seeds)
    # Error of the source: shift all seeds to one bound, then to the other.
    low = at_bound(group, compared, "lo")
    high = at_bound(group, compared, "hi")
    if not len(low) == len(high) == len(values):
        return Estimate(num_seeds=len(values), seeds=seeds)
    # The source errs alike in all seeds: its bounds are averaged, not combined as independent errors.
    source = Interval(seeds.value, fmean(low), fmean(high))
    both = None
    if len(values) > 1:
        # Both errors: the interval over seeds at the lower bound and at the upper one, joined.
        lowest = mean_interval(low, is_signed=False).lo
        highest = mean_interval(high, is_signed=False).hi
        both = Interval(seeds.value, lowest, highest)
    return Estimate(num_seeds=len(values), seeds=seeds, source=source, both=both)
