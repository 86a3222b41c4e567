"""Steps of a power budget hold until the next one, and a ramp bounds their change both ways."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.floor.steps import Steps

STEPS = st.lists(st.floats(0.0, 500.0), min_size=1, max_size=6).flatmap(
    lambda watts: st.lists(st.integers(0, 1000), min_size=len(watts), max_size=len(watts), unique=True).map(
        lambda times: list(zip(map(float, sorted(times)), watts, strict=True))
    )
)


def test_a_step_holds_until_the_next_one() -> None:
    """Intervals are half open: the next value holds from its own time on."""
    steps = Steps([(10.0, 100.0), (20.0, 50.0)])
    assert [steps.at(t) for t in (9.9, 10.0, 19.9, 20.0, 1e9)] == [inf, 100.0, 100.0, 50.0, 50.0]
    assert [steps.next_time(t) for t in (0.0, 10.0, 20.0)] == [10.0, 20.0, inf]


def test_without_steps_there_is_no_limit() -> None:
    """An empty schedule limits nothing."""
    assert Steps().at(0.0) == inf
    assert Steps(ramp_w_per_s=1.0).ramped_at(0.0) == inf


def test_a_ramp_falls_before_the_step_and_rises_after_it() -> None:
    """With 5 W/s, the 50 W between 100 W and 50 W take 10 s on either side."""
    steps = Steps([(0.0, 100.0), (100.0, 50.0), (200.0, 100.0)], ramp_w_per_s=5.0)
    times = (89.0, 90.0, 95.0, 100.0, 199.0, 200.0, 205.0, 210.0, 300.0)
    powers = [100.0, 100.0, 75.0, 50.0, 50.0, 50.0, 75.0, 100.0, 100.0]
    assert [steps.ramped_at(t) for t in times] == powers


def test_a_short_dip_is_seen_through_its_neighbours() -> None:
    """A step that is shorter than its ramp still bounds the power around it."""
    steps = Steps([(0.0, 100.0), (50.0, 10.0), (51.0, 100.0), (52.0, 90.0)], ramp_w_per_s=10.0)
    assert steps.ramped_at(52.0) == pytest.approx(20.0)
    assert steps.ramped_at(47.0) == pytest.approx(40.0)


@given(rows=STEPS, ramp=st.floats(0.1, 50.0), time_s=st.floats(-100.0, 1100.0), later_s=st.floats(0.0, 50.0))
def test_ramped_power_is_the_greatest_allowed(
    rows: list[tuple[float, float]], ramp: float, time_s: float, later_s: float
) -> None:
    """It is the formula of the docstring: below the steps, and no steeper than the ramp."""
    steps = Steps(rows, ramp_w_per_s=ramp)
    # The distance to a step's interval is zero inside of it.
    ends = [row[0] for row in rows[1:]] + [inf]
    expected = min(
        watts + ramp * max(0.0, start - time_s, time_s - end)
        for (start, watts), end in zip(rows, ends, strict=True)
    )
    assert steps.ramped_at(time_s) == pytest.approx(expected)
    change = abs(steps.ramped_at(time_s + later_s) - steps.ramped_at(time_s))
    assert change <= ramp * later_s + 1e-9
