"""Durations survive a wall clock that jumps."""

from __future__ import annotations

from factory.floor.clock import MonotonicTimes


class Clocks:
    """Two clocks that a test sets."""

    wall_s = 1_000_000.0
    monotonic_s = 500.0

    def pass_seconds(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def test_moments_stay_where_they_were_seen() -> None:
    """A jump of an hour, either way, moves neither the past nor a retry that is due."""
    clocks = Clocks()
    times = MonotonicTimes(wall=lambda: clocks.wall_s, monotonic=lambda: clocks.monotonic_s)
    started = clocks.wall_s - 20.0
    retry = clocks.wall_s + 30.0
    assert (times.past(started), times.future(retry)) == (480.0, 530.0)
    for jump_s in (3600.0, -7200.0):
        clocks.wall_s += jump_s
        clocks.pass_seconds(1.0)
        assert (times.past(started), times.future(retry)) == (480.0, 530.0)


def test_the_past_is_not_in_the_future() -> None:
    """What an earlier process wrote before the clock was put back has happened by now."""
    clocks = Clocks()
    times = MonotonicTimes(wall=lambda: clocks.wall_s, monotonic=lambda: clocks.monotonic_s)
    assert times.past(clocks.wall_s + 100.0) == 500.0
    assert times.future(clocks.wall_s + 200.0) == 700.0
