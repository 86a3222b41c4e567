"""Predictions of actions, compared with the power that was seen after them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

from factory.energy.uncertainty import COVERAGE_FACTOR
from factory.floor.plan import PowerSample

BEFORE_S = 3.0
"""Time before an action over which the power is averaged."""
AFTER_S = (3.0, 10.0)
"""Beginning and end of the time after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An action and its prediction. Times are those of the samples."""

    line: int
    verb: str
    at: float
    settled_at: float
    """Time from which the line draws its new power: that of a pause, or when a started line runs."""
    predicted_w: float
    sd_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Predicted and seen change of power, of an action or of several that overlap."""

    at: float
    lines: tuple[int, ...]
    predicted_w: float
    seen_w: float
    sd_w: float
    """Standard deviation of their difference: of the prediction, and of the two means that were seen."""

    @property
    def error_w(self) -> float:
        """Return the change seen, less the change predicted [W]."""
        return self.seen_w - self.predicted_w

    @property
    def is_covered(self) -> bool:
        """Return whether the change seen lies in the interval of the prediction (k = 2)."""
        return abs(self.error_w) <= COVERAGE_FACTOR * self.sd_w


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Quality of predictions: errors are changes seen less changes predicted."""

    num_scores: int
    bias_w: float
    """Mean error."""
    mean_absolute_error_w: float
    error_q05_w: float
    error_q50_w: float
    error_q95_w: float
    coverage: float
    """Share of changes inside their intervals; about 0.95 if the intervals are right."""


def score(predictions: Iterable[Prediction], samples: Sequence[PowerSample]) -> list[Score]:
    """Compare the power 3 s to 10 s after actions with the 3 s before them.

    Actions that follow each other before that time is over are scored together, as their sum. Those without
    samples on both sides are left out.

    Args:
        predictions: Actions in any order.
        samples: Power of the node by rising time.
    """
    scores: list[Score] = []
    group: list[Prediction] = []
    end = 0.0
    for prediction in sorted(predictions, key=lambda prediction: prediction.at):
        if group and prediction.at > end:
            scores += _score_group(group, samples)
            group = []
        group.append(prediction)
        # Until then the power after this action cannot be told from that after the next.
        end = max(each.settled_at for each in group) + AFTER_S[1]
    if group:
        scores += _score_group(group, samples)
    return scores


def calibrate(scores: Sequence[Score]) -> Calibration | None:
    """Return the distribution of the errors and the coverage of the intervals; None without scores."""
    if not scores:
        return None
    errors_w = sorted(each.error_w for each in scores)
    return Calibration(
        num_scores=len(scores),
        bias_w=fmean(errors_w),
        mean_absolute_error_w=fmean(abs(error_w) for error_w in errors_w),
        error_q05_w=_quantile(errors_w, 0.05),
        error_q50_w=_quantile(errors_w, 0.5),
        error_q95_w=_quantile(errors_w, 0.95),
        coverage=fmean(each.is_covered for each in scores),
    )


def plot_data(scores: Sequence[Score]) -> list[tuple[float, float, float]]:
    """Return predicted change, seen change, and half the width of its interval [W] of each score."""
    return [(each.predicted_w, each.seen_w, COVERAGE_FACTOR * each.sd_w) for each in scores]


def _score_group(group: Sequence[Prediction], samples: Sequence[PowerSample]) -> list[Score]:
    first = group[0].at
    settled = max(each.settled_at for each in group)
    before_w = _powers(samples, first - BEFORE_S, first)
    after_w = _powers(samples, settled + AFTER_S[0], settled + AFTER_S[1])
    if not before_w or not after_w:
        return []
    # Independent errors add up as variances: of every prediction, and of the two means.
    spread_w = sqrt(sum(each.sd_w**2 for each in group) + _mean_variance(before_w) + _mean_variance(after_w))
    return [
        Score(
            at=first,
            lines=tuple(each.line for each in group),
            predicted_w=sum(each.predicted_w for each in group),
            seen_w=fmean(after_w) - fmean(before_w),
            sd_w=spread_w,
        )
    ]


def _powers(samples: Sequence[PowerSample], start: float, end: float) -> list[float]:
    """Return the powers of the samples in an interval of time, its ends included [W]."""
    left = bisect_left(samples, start, key=_time)
    right = bisect_right(samples, end, key=_time)
    return [sample.power_w for sample in samples[left:right]]


def _time(sample: PowerSample) -> float:
    return sample.t_s


def _mean_variance(values: Sequence[float]) -> float:
    """Return the variance of the mean of independent values; 0 for a single one."""
    if len(values) < 2:
        return 0.0
    return variance(values) / len(values)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of rising values, interpolated linearly."""
    # Type 7 of Hyndman and Fan 1996, as NumPy's default.
    position = share * (len(ordered) - 1)
    left = int(position)
    right = min(left + 1, len(ordered) - 1)
    return ordered[left] + (position - left) * (ordered[right] - ordered[left])
