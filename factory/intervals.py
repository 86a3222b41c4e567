"""Intervals of a share of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, sqrt

from factory.energy.types import Interval
from factory.energy.uncertainty import NORMAL_95
from factory.metric_keys import metric


def wilson(share: float, count: int) -> Interval:
    """Return a share with its 95 % interval, where `count` independent trials had it.

    Wilson's score interval (1927): the shares p with |share - p| <= z sqrt(p (1 - p) / count). Unlike the
    textbook interval it stays within 0 and 1, and is right for shares near them.
    """
    if count < 1:
        raise ValueError(f"count={count}: a share needs at least one trial")
    z2 = NORMAL_95**2 / count
    centre = (share + z2 / 2.0) / (1.0 + z2)
    half_width = sqrt(share * (1.0 - share) * z2 + z2 * z2 / 4.0) / (1.0 + z2)
    # In exact arithmetic the bounds hold the share and lie within 0 and 1.
    return Interval(
        share, max(0.0, min(share, centre - half_width)), min(1.0, max(share, centre + half_width))
    )


def share_interval(metrics: Mapping[str, float], key: str) -> Interval | None:
    """Return a share of an evaluation's episodes with its interval; None if the metric is no such share.

    Args:
        metrics: of a run, `eval/episodes` among them.
        key: one of them.
    """
    episodes = metrics.get("eval/episodes", 0.0)
    is_share = key.startswith("eval/") and metric(key).unit == "%" and 0.0 <= metrics.get(key, -1.0) <= 1.0
    # The metrics may come from a stranger's file.
    if not (is_share and isfinite(episodes) and episodes >= 1.0):
        return None
    return wilson(metrics[key], round(episodes))


def share_intervals(metrics: Mapping[str, float]) -> dict[str, list[float]]:
    """Return the bounds of every share of an evaluation's episodes, as lists for JSON."""
    found = {key: share_interval(metrics, key) for key in metrics}
    return {key: [interval.lo, interval.hi] for key, interval in found.items() if interval}


def poisson_rate(count: int, exposure: float) -> Interval:
    """Return events per unit of exposure with the exact 95 % interval (Garwood 1936).

        lo = q(0.025, 2 count) / 2 / exposure,    hi = q(0.975, 2 count + 2) / 2 / exposure

    with the quantiles q(p, k) of the chi-squared distribution with k degrees of freedom.
    """
    if count < 0 or exposure <= 0.0:
        raise ValueError(f"count={count}, exposure={exposure}: a rate needs some exposure")
    # Imported here: few commands need it, and it takes a second.
    from scipy.special import chdtri

    lo = 0.0
    if count > 0:
        lo = float(chdtri(2 * count, 0.975)) / 2.0
    hi = float(chdtri(2 * count + 2, 0.025)) / 2.0
    return Interval(count / exposure, lo / exposure, hi / exposure)
