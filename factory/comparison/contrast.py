"""Two groups against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from factory.comparison.bootstrap import difference_interval, ratio_interval
from factory.comparison.estimate import at_bound, value_of
from factory.comparison.groups import Group
from factory.energy.types import Interval
from factory.metric_keys import Metric

_SHARED_SOURCE_TAGS = ("energy.tier", "energy.boundary", "energy.shared", "device")
"""Tags of runs whose energy source errs alike where they are equal."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The second group against the first in one metric."""

    metric: Metric
    interval: Interval
    """Difference of what may be negative, ratio of all else; bounds are NaN if a group has one seed."""
    is_source_shared: bool = True
    """True if both groups share the error of an energy source, which then drops out of the ratio."""

    @property
    def is_clear(self) -> bool:
        """True if the interval excludes "no difference"."""
        neutral = 1.0
        if self.metric.is_signed:
            neutral = 0.0
        return not math.isnan(self.interval.lo) and neutral not in self.interval


def contrast(first: Group, second: Group, compared: Metric) -> Contrast | None:
    """Return the second group against the first, None if one of them lacks the metric."""
    before = first.by_seed(lambda run: value_of(run, compared))
    after = second.by_seed(lambda run: value_of(run, compared))
    if not before or not after:
        return None
    # A ratio of returns means nothing when one of them may be negative.
    if compared.is_signed:
        return Contrast(metric=compared, interval=difference_interval(before, after))
    ratio = ratio_interval(before, after)
    if math.isnan(ratio.value):
        return None
    # The same counter on the same machine errs alike in both groups: b (1 + e) / (a (1 + e)) = b / a.
    is_shared = all(first.tag(key) == second.tag(key) for key in _SHARED_SOURCE_TAGS)
    if not compared.is_energy or is_shared:
        return Contrast(metric=compared, interval=ratio)
    lows = [at_bound(group, compared, "lo") for group in (first, second)]
    highs = [at_bound(group, compared, "hi") for group in (first, second)]
    # Another source whose error is not on record: the ratio would be of unknown worth.
    if not all((*lows, *highs)):
        return None
    # Otherwise the ratio is smallest with the first group at its upper bound and the second at its lower one.
    lowest = ratio_interval(highs[0], lows[1]).lo
    highest = ratio_interval(lows[0], highs[1]).hi
    return Contrast(metric=compared, interval=Interval(ratio.value, lowest, highest), is_source_shared=False)
