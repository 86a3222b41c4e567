"""Statistics that detectors share: robust centre and spread, one-sided sums, slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf, log, sqrt
from statistics import median

_NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def robust(values: Sequence[float]) -> tuple[float, float]:
    """Return median and scaled median absolute deviation; outliers move neither much."""
    centre = median(values)
    return centre, _NORMAL_MAD * median(abs(value - centre) for value in values)


def roughness(values: Sequence[float]) -> float:
    """Return the standard deviation of values about a curve without bends; zero for fewer than three.

    It comes from the distances of values from the middle of their neighbours, to which a straight rise adds
    nothing, and from the median of these, which a few steps do not move.
    """
    triples = zip(values, values[1:], values[2:], strict=False)
    bends = [abs(value - 0.5 * (before + after)) for before, value, after in triples]
    if not bends:
        return 0.0
    # The distance has 1 + 2 / 4 times the variance of a value.
    return _NORMAL_MAD * median(bends) / sqrt(1.5)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cusum(values: Sequence[float], *, centre: float, spread: float, slack: float = 0.5) -> float:
    """Return the one-sided cumulative sum at the end (Page 1954), in standard deviations.

        S_i = max(0, S_(i-1) + (x_i - centre) / spread - slack)

    Args:
        values: observations, oldest first.
        centre: their mean while nothing is wrong.
        spread: their standard deviation while nothing is wrong.
        slack: drift that is forgiven at each observation, in standard deviations.
    """
    total = 0.0
    for value in values:
        total = max(0.0, total + (value - centre) / spread - slack)
    return total


def logs(values: Sequence[float]) -> list[float]:
    """Return the logarithms of positive values."""
    return [log(max(value, 1e-12)) for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A straight line through points, by least squares."""

    per_x: float
    error: float
    """Standard error of the slope."""
    r2: float
    """Share of the variance that the line explains."""


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Return the slope of points; zero with an infinite error for fewer than three."""
    number = len(points)
    if number < 3:
        return Slope(per_x=0.0, error=inf, r2=0.0)
    mean_x = fsum(x for x, _ in points) / number
    mean_y = fsum(y for _, y in points) / number
    sxx = fsum((x - mean_x) ** 2 for x, _ in points)
    syy = fsum((y - mean_y) ** 2 for _, y in points)
    sxy = fsum((x - mean_x) * (y - mean_y) for x, y in points)
    if sxx <= 0.0:
        return Slope(per_x=0.0, error=inf, r2=0.0)
    per_x = sxy / sxx
    # Sum of squared residuals, from S_yy - S_xy^2 / S_xx; rounding may make it negative.
    rest = max(0.0, syy - per_x * sxy)
    r2 = 0.0
    if syy > 0.0:
        r2 = 1.0 - rest / syy
    # Two degrees of freedom are used up by slope and intercept.
    return Slope(per_x=per_x, error=sqrt(rest / (number - 2) / sxx), r2=r2)
