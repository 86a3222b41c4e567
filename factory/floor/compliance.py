"""Metrics of a floor under a budget that changes: how fast, how far and at what cost the power followed.

A sample holds the mean power of the tick before it and the budget that was in force at its end. The tick in
which a budget falls therefore counts as if the new budget had held all the time: no metric is better than the
truth. Powers are those that the budget is held on; where they are estimated, so is every watt here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan
from statistics import fmean

from factory.floor.plan import PowerSample

WINDOW_S = 10.0
"""Time over which the power is averaged for compliance and ramps."""
BEFORE_S = 60.0
"""Time before an event from which the floor forecasts."""
AFTER_S = 3600.0
"""Time after an event in which power may snap back and tokens may be made up for."""
GAP_S = 10.0
"""Time between two samples beyond which nobody ran the floor."""
_ANSWERED = 0.9
"""Share of the requested reduction at which an event counts as answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Power and tokens that the floor would have had without the event."""

    statement: str
    """Origin, for people: a control run, or the floor's own forecast."""
    power_w: float
    """Mean power [W]."""
    times_s: tuple[float, ...]
    tokens: tuple[float, ...]
    """Tokens since the start of the event at these times [s since that start]; linear between them."""

    @classmethod
    def control(cls, samples: Sequence[PowerSample], *, start_s: float) -> Baseline:
        """Return the baseline of an undisturbed run of the same lines.

        Args:
            samples: The control run's own, by rising time.
            start_s: Time in the control run that corresponds to the start of the event.

        Raises:
            ValueError: If the control run has fewer than two samples after that time.
        """
        during = [sample for sample in samples if sample.t_s >= start_s]
        if len(during) < 2:
            raise ValueError("the control run has no samples to compare with; let it run longer")
        return cls(
            statement="an undisturbed control run of the same lines",
            power_w=fmean(sample.power_w for sample in during),
            times_s=tuple(sample.t_s - start_s for sample in during),
            tokens=tuple(sample.tokens - during[0].tokens for sample in during),
        )

    @classmethod
    def forecast(cls, *, power_w: float, tokens_per_s: float, horizon_s: float) -> Baseline:
        """Return the floor's own forecast, frozen at the start of the event."""
        return cls(
            statement="the floor's forecast, frozen at the start of the event: the mean of the minute before",
            power_w=power_w,
            times_s=(0.0, horizon_s),
            tokens=(0.0, tokens_per_s * horizon_s),
        )

    def tokens_at(self, time_s: float) -> float:
        """Return the tokens at a time since the start of the event; constant outside of the known times."""
        right = bisect_right(self.times_s, time_s)
        if right == 0:
            return self.tokens[0]
        if right == len(self.times_s):
            return self.tokens[-1]
        left = right - 1
        share = (time_s - self.times_s[left]) / (self.times_s[right] - self.times_s[left])
        return self.tokens[left] + share * (self.tokens[right] - self.tokens[left])


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReport:
    """Metrics of one event: a time in which the budget was lower."""

    baseline: str
    """Statement of the baseline."""
    baseline_w: float
    """Power without the event [W]."""
    mean_w: float
    """Mean power during the event [W]."""
    violation_ws: float
    """Energy above the budget, over all samples [W s]."""
    max_excess_w: float
    """Greatest power above the budget [W]."""
    response_s: float | None
    """Time from the start to 90 % of the reduction asked for [s]; None if it was never reached."""
    fall_w_per_s: float
    rise_w_per_s: float
    """Steepest change of the mean power between neighbouring windows of 10 s [W/s]."""
    snap_back: float
    """Peak of a 10 s mean after the event, relative to the power without it."""
    tokens_deferred: float
    """Tokens fewer than the baseline's at the end of the event."""
    tokens_lost: float
    """Tokens fewer than the baseline's at the last sample."""
    compliance: float
    """Share of the windows of 10 s whose mean power was within the mean budget."""


def report_event(
    samples: Sequence[PowerSample], *, start_s: float, end_s: float, baseline: Baseline
) -> EventReport:
    """Return the metrics of an event.

    Args:
        samples: Power, budget and tokens by rising time, from before the event to well after it.
        start_s: Time at which the budget fell.
        end_s: Time at which it returned.
        baseline: Power and tokens without the event.

    Raises:
        ValueError: If there are no samples before, during or after the event.
    """
    during = [sample for sample in samples if start_s <= sample.t_s < end_s]
    after = [sample for sample in samples if sample.t_s >= end_s]
    before = [sample for sample in samples if sample.t_s < start_s]
    if not (before and during and after):
        raise ValueError("samples must reach from before the event to after it; let the floor run longer")
    ramps = list(_ramps(samples))
    # Tokens count from the beginning of the event, as the baseline's do.
    base_tokens = before[-1].tokens
    return EventReport(
        baseline=baseline.statement,
        baseline_w=baseline.power_w,
        mean_w=fmean(sample.power_w for sample in during),
        violation_ws=violation_ws(samples),
        max_excess_w=max_excess_w(samples),
        response_s=response_s([*before, *during], start_s=start_s),
        fall_w_per_s=-min(ramps, default=0.0),
        rise_w_per_s=max(ramps, default=0.0),
        snap_back=_share(max(power_w for _, power_w, _ in windows(after)), baseline.power_w),
        tokens_deferred=baseline.tokens_at(end_s - start_s) - (during[-1].tokens - base_tokens),
        tokens_lost=baseline.tokens_at(samples[-1].t_s - start_s) - (samples[-1].tokens - base_tokens),
        compliance=compliance(samples),
    )


def report_events(samples: Sequence[PowerSample]) -> list[tuple[float, float, EventReport]]:
    """Return start, end and metrics of each time with a lower budget, against the floor's own forecast.

    The forecast is the mean power and speed of the minute before. Events that have not ended yet, or that
    begin before the first sample, are left out.
    """
    found = list(_events(samples))
    reports = []
    for index, (start_s, end_s) in enumerate(found):
        # What happens after the next event has begun is no echo of this one.
        until_s = end_s + AFTER_S
        if index + 1 < len(found):
            until_s = min(until_s, found[index + 1][0])
        near = [sample for sample in samples if start_s - BEFORE_S <= sample.t_s < until_s]
        before = [sample for sample in near if sample.t_s < start_s]
        if len(before) < 2:
            continue
        baseline = Baseline.forecast(
            power_w=fmean(sample.power_w for sample in before),
            tokens_per_s=(before[-1].tokens - before[0].tokens) / (before[-1].t_s - before[0].t_s),
            horizon_s=near[-1].t_s - start_s,
        )
        reports.append((start_s, end_s, report_event(near, start_s=start_s, end_s=end_s, baseline=baseline)))
    return reports


def _events(samples: Sequence[PowerSample]) -> Iterator[tuple[float, float]]:
    """Yield the times from each fall of the budget until it is as high as before."""
    usual_w = 0.0
    start_s: float | None = None
    # Falls inside an event belong to it: it ends when the budget is back where it was before the first.
    for before, sample in pairwise(samples):
        if start_s is None and sample.limit_w < before.limit_w:
            start_s = sample.t_s
            usual_w = before.limit_w
        elif start_s is not None and sample.limit_w >= usual_w:
            yield start_s, sample.t_s
            start_s = None


def violation_ws(samples: Sequence[PowerSample]) -> float:
    """Return the energy above the budget [W s]; the first sample only marks the beginning.

    A sample speaks for at most `GAP_S`: for longer, no floor was there to see or to obey anything.
    """
    return sum(
        max(0.0, sample.power_w - sample.limit_w) * min(sample.t_s - before.t_s, GAP_S)
        for before, sample in pairwise(samples)
    )


def max_excess_w(samples: Sequence[PowerSample]) -> float:
    """Return the greatest power above the budget [W]; 0 if it was never exceeded."""
    return max((max(0.0, sample.power_w - sample.limit_w) for sample in samples), default=0.0)


def response_s(samples: Sequence[PowerSample], *, start_s: float) -> float | None:
    """Return the time until 90 % of the reduction asked for was reached [s]; None if it was not.

    The reduction is the power of the last sample before the start, less the least budget after it.
    """
    before = [sample for sample in samples if sample.t_s < start_s]
    after = [sample for sample in samples if sample.t_s >= start_s]
    if not before or not after:
        return None
    asked_w = before[-1].power_w - min(sample.limit_w for sample in after)
    # Nothing to do if the power was below the new budget already.
    if asked_w <= 0.0:
        return 0.0
    for sample in after:
        if before[-1].power_w - sample.power_w >= _ANSWERED * asked_w:
            return sample.t_s - start_s
    return None


def compliance(samples: Sequence[PowerSample]) -> float:
    """Return the share of the windows of 10 s whose mean power was within their mean budget."""
    return fmean(power_w <= limit_w for _, power_w, limit_w in windows(samples))


def windows(samples: Sequence[PowerSample]) -> list[tuple[float, float, float]]:
    """Return start, mean power and mean budget of each window of 10 s that has samples.

    Raises:
        ValueError: If there are no samples.
    """
    if not samples:
        raise ValueError("there are no samples of the power; let the floor run longer")
    first_s = samples[0].t_s
    inside: dict[int, list[PowerSample]] = {}
    for sample in samples:
        inside.setdefault(int((sample.t_s - first_s) // WINDOW_S), []).append(sample)
    return [
        (
            first_s + index * WINDOW_S,
            fmean(sample.power_w for sample in window),
            _mean_limit(window),
        )
        for index, window in sorted(inside.items())
    ]


def _share(part: float, whole: float) -> float:
    """Return a part of a whole; nothing is known of a share in nothing."""
    if not whole > 0.0:
        return nan
    return part / whole


def _mean_limit(window: Sequence[PowerSample]) -> float:
    limits_w = [sample.limit_w for sample in window]
    if inf in limits_w:
        return inf
    return fmean(limits_w)


def _ramps(samples: Sequence[PowerSample]) -> Iterator[float]:
    """Yield the change of the mean power from each window of 10 s to the next [W/s]."""
    for before, after in pairwise(windows(samples)):
        yield (after[1] - before[1]) / (after[0] - before[0])
