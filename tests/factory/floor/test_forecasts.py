"""The error of the forecast is that of quiet minutes, worked by hand."""

from __future__ import annotations

import pytest

from factory.floor.forecasts import forecast_error
from factory.floor.plan import PowerSample

# Means of the minutes 0 to 5: 10, 14, 50, 12, 11 and, after a gap, 30 W.
SAMPLES = [
    PowerSample(60.0 * minute + second, watts)
    for minute, watts in ((0, 10.0), (1, 14.0), (2, 50.0), (3, 12.0), (4, 11.0), (6, 30.0))
    for second in range(0, 60, 10)
]


def test_minutes_of_an_event_and_gaps_are_left_out() -> None:
    """Left are +4 W and -1 W: the event is in minute 2, and nobody saw minute 5."""
    found = forecast_error(SAMPLES, [(125.0, 180.0)])
    assert found is not None
    assert (found.number, found.bias_w, found.mean_absolute_w) == (2, 1.5, 2.5)
    everything = forecast_error(SAMPLES, [])
    assert everything is not None
    assert everything.mean_absolute_w == pytest.approx((4.0 + 36.0 + 38.0 + 1.0) / 4.0)


def test_without_two_quiet_minutes_there_is_no_error() -> None:
    """Nothing was foretold."""
    assert forecast_error([], []) is None
    assert forecast_error(SAMPLES[:6], []) is None
    assert forecast_error(SAMPLES, [(0.0, 1000.0)]) is None
