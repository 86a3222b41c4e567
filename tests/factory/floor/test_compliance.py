"""Metrics of an event under a budget, by examples worked by hand."""

from __future__ import annotations

from math import inf

import pytest

from factory.floor.compliance import (
    Baseline,
    compliance,
    max_excess_w,
    report_event,
    report_events,
    response_s,
    violation_ws,
    windows,
)
from factory.floor.plan import PowerSample

# 100 W until the budget falls to 60 W at t = 20 s; two ticks later 50 W; 100 W again from t = 53 s on.
EVENT = (
    [PowerSample(float(t), 100.0, 120.0, 10.0 * t) for t in range(20)]
    + [PowerSample(20.0, 100.0, 60.0, 200.0), PowerSample(21.0, 80.0, 60.0, 208.0)]
    + [PowerSample(float(t), 50.0, 60.0, 208.0 + 5.0 * (t - 21)) for t in range(22, 50)]
    + [PowerSample(float(t), 50.0, 120.0, 348.0 + 5.0 * (t - 49)) for t in range(50, 53)]
    + [PowerSample(float(t), 100.0, 120.0, 363.0 + 10.0 * (t - 52)) for t in range(53, 80)]
)


def test_the_violation_is_the_energy_above_the_budget() -> None:
    """40 W and 20 W for a second each; the greatest excess is 40 W."""
    assert violation_ws(EVENT) == pytest.approx(60.0)
    assert max_excess_w(EVENT) == pytest.approx(40.0)
    sparse = [PowerSample(0.0, 70.0, 60.0), PowerSample(3.0, 70.0, 60.0), PowerSample(4.0, 50.0, 60.0)]
    assert violation_ws(sparse) == pytest.approx(30.0)
    assert violation_ws(EVENT[:10]) == 0.0
    # Nobody ran the floor for an hour: the next sample speaks for ten seconds.
    gap = [PowerSample(0.0, 50.0, 60.0), PowerSample(3600.0, 70.0, 60.0)]
    assert violation_ws(gap) == pytest.approx(100.0)
    assert max_excess_w([]) == 0.0


def test_the_response_is_the_time_to_most_of_the_reduction() -> None:
    """40 W were asked for; 36 W are reached at 22 s."""
    assert response_s(EVENT, start_s=20.0) == pytest.approx(2.0)
    assert response_s(EVENT[:22], start_s=20.0) is None
    # A target that the floor sees two ticks late was given at 18 s all the same.
    assert response_s(EVENT, start_s=18.0) == pytest.approx(4.0)
    assert response_s([PowerSample(0.0, 50.0, 60.0), PowerSample(1.0, 50.0, 60.0)], start_s=1.0) == 0.0
    assert response_s([], start_s=1.0) is None


def test_windows_have_means() -> None:
    """The third window holds both ticks above the budget."""
    found = windows(EVENT)
    assert len(found) == 8
    assert found[2] == (20.0, pytest.approx((100 + 80 + 8 * 50) / 10.0), 60.0)
    assert windows([PowerSample(0.0, 5.0, inf), PowerSample(1.0, 5.0, 10.0)]) == [(0.0, 5.0, inf)]
    with pytest.raises(ValueError, match="no samples"):
        windows([])


def test_compliance_is_the_share_of_windows_within_the_budget() -> None:
    """The window at 20 s has a mean of 58 W, within its 60 W; with 11 W less, three of eight windows fail."""
    assert compliance(EVENT) == 1.0
    lower = [PowerSample(s.t_s, s.power_w, s.limit_w - 11.0) for s in EVENT]
    assert compliance(lower) == pytest.approx(5.0 / 8.0)


def test_a_control_run_is_the_baseline() -> None:
    """Tokens are counted from the start of the event, and are linear between samples."""
    control = [PowerSample(1000.0 + t, 100.0, inf, 500.0 + 10.0 * t) for t in range(0, 80, 2)]
    baseline = Baseline.control(control, start_s=1020.0)
    assert baseline.power_w == pytest.approx(100.0)
    assert [baseline.tokens_at(t) for t in (-5.0, 0.0, 3.0, 30.0, 1e9)] == [0.0, 0.0, 30.0, 300.0, 580.0]
    with pytest.raises(ValueError, match="control run"):
        Baseline.control(control, start_s=1079.0)


def test_an_event_is_reported() -> None:
    """Every metric of the trace above, against a forecast of 100 W and 10 tokens/s."""
    baseline = Baseline.forecast(power_w=100.0, tokens_per_s=10.0, horizon_s=100.0)
    found = report_event(EVENT, start_s=20.0, end_s=50.0, baseline=baseline)
    assert (
        found.baseline
        == "the floor's forecast, frozen at the start of the event: the mean of the minute before"
    )
    assert found.mean_w == pytest.approx((100.0 + 80.0 + 28 * 50.0) / 30.0)
    assert found.response_s == pytest.approx(2.0)
    # Means of the windows: 100, 100, 58, 50, 50, 85, 100, 100 W.
    assert found.fall_w_per_s == pytest.approx(4.2)
    assert found.rise_w_per_s == pytest.approx(3.5)
    assert found.snap_back == pytest.approx(1.0)
    # At 49 s there were 348 - 190 tokens since the last sample before the event, and 300 in the forecast.
    assert found.tokens_deferred == pytest.approx(300.0 - 158.0)
    assert found.tokens_lost == pytest.approx(590.0 - (633.0 - 190.0))
    assert found.compliance == 1.0


def test_events_are_found_in_the_record() -> None:
    """A budget that falls, falls further and returns is one event; one that has not ended is none yet."""
    ((start_s, end_s, found),) = report_events(EVENT)
    assert (start_s, end_s) == (20.0, 50.0)
    baseline = Baseline.forecast(power_w=100.0, tokens_per_s=10.0, horizon_s=59.0)
    assert found == report_event(EVENT, start_s=20.0, end_s=50.0, baseline=baseline)
    limits = [100.0] * 5 + [80.0] * 5 + [50.0] * 5 + [80.0] * 5 + [100.0] * 5 + [60.0] * 5
    steps = [PowerSample(float(t), 40.0, limit_w, float(t)) for t, limit_w in enumerate(limits)]
    assert [(start, end) for start, end, _ in report_events(steps)] == [(5.0, 20.0)]
    assert report_events(EVENT[20:]) == []
    assert report_events([]) == []


def test_neighbouring_events_are_kept_apart() -> None:
    """The time after an event ends where the next one begins."""
    first = [PowerSample(s.t_s, s.power_w, s.limit_w, s.tokens) for s in EVENT]
    second = [PowerSample(s.t_s + 80.0, s.power_w, s.limit_w, s.tokens + 640.0) for s in EVENT]
    found = report_events([*first, *second])
    assert [(start, end) for start, end, _ in found] == [(20.0, 50.0), (100.0, 130.0)]
    assert found[0][2].violation_ws == pytest.approx(60.0)
    assert found[1][2].violation_ws == pytest.approx(60.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 50.0), (20.0, 100.0), (20.5, 20.6)])
def test_events_need_samples_around_them(start_s: float, end_s: float) -> None:
    """Without them there is nothing to report."""
    baseline = Baseline.forecast(power_w=100.0, tokens_per_s=10.0, horizon_s=100.0)
    with pytest.raises(ValueError, match="before the event to after it"):
        report_event(EVENT, start_s=start_s, end_s=end_s, baseline=baseline)
