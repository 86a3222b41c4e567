"""Error of the forecast that events are compared with, in the time without an event.

The forecast of an event is that power and speed stay as they were in the minute before it. In every other
pair of neighbouring minutes the same forecast is made as well, and there its error is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from statistics import fmean

from factory.floor.compliance import BEFORE_S
from factory.floor.plan import PowerSample


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastError:
    """Difference between the mean power of a minute and that of the minute before."""

    number: int
    """Pairs of minutes."""
    bias_w: float
    """Mean of the actual power less the forecast [W]."""
    mean_absolute_w: float


def forecast_error(
    samples: Sequence[PowerSample], events: Sequence[tuple[float, float]]
) -> ForecastError | None:
    """Return the error of the forecast outside of events; None without two such minutes in a row.

    Args:
        samples: power by rising time.
        events: start and end of each event [s].
    """
    minutes: dict[int, list[float]] = {}
    for sample in samples:
        minutes.setdefault(floor(sample.t_s / BEFORE_S), []).append(sample.power_w)
    # Minutes that touch an event are left out: there the budget makes the power, not the forecast's error.
    means_w = {
        minute: fmean(powers_w)
        for minute, powers_w in minutes.items()
        if not any(
            start_s < (minute + 1) * BEFORE_S and minute * BEFORE_S < end_s for start_s, end_s in events
        )
    }
    # Only neighbours: after a gap there is no minute before.
    errors_w = [
        means_w[after] - means_w[before] for before, after in pairwise(sorted(means_w)) if after == before + 1
    ]
    if not errors_w:
        return None
    return ForecastError(
        number=len(errors_w),
        bias_w=fmean(errors_w),
        mean_absolute_w=fmean(abs(error_w) for error_w in errors_w),
    )
