"""Intervals of a share of episodes."""

from __future__ import annotations

from math import sqrt

from factory.energy.types import Interval
from factory.energy.uncertainty import NORMAL_95


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
