"""Pauses between iterations hold a power on average, as the meter sees it."""

from __future__ import annotations

import pytest
from energy_fakes import Clock, PowerSource
from hypothesis import given
from hypothesis import strategies as st

from factory.energy.meter import Meter
from factory.power.throttle import Throttle

IDLE_W = 20.0


class Machine:
    """A machine that draws one power at work and another while it sleeps."""

    def __init__(self, watts: float, work_w: float) -> None:
        self.clock = Clock()
        self.spent_j = 0.0
        self.work_w = work_w
        self.source = PowerSource(self.clock, 0.0)
        self.source.trace = self  # type: ignore[assignment]
        self.meter = Meter([self.source], clock_ns=self.clock)
        self.meter.start()
        self.throttle = Throttle(watts, self.meter, sleep=lambda seconds: self.spend(seconds, IDLE_W))
        self.throttle.start()

    def energy_j(self, _: float) -> float:
        """Return the joules so far."""
        return self.spent_j

    def spend(self, seconds: float, power_w: float) -> None:
        """Let time pass at a power."""
        self.spent_j += seconds * power_w
        self.clock.advance(seconds)

    def iterate(self, seconds: float) -> tuple[float, float, str]:
        """Work, pause, and return mean power of both, the time, and the warning."""
        before = self.meter.read()
        with self.meter.phase("sim"):
            self.spend(seconds, self.work_w)
        warning = self.throttle.wait()
        after = self.meter.read()
        passed_s = after.wall_s - before.wall_s
        return (after.total_j - before.total_j) / passed_s, passed_s, warning


def test_trace() -> None:
    """The machine's joules are those of its stretches."""
    machine = Machine(0.0, work_w=100.0)
    assert machine.iterate(2.0) == (pytest.approx(100.0), pytest.approx(2.0), "")


@given(
    watts=st.floats(30.0, 99.0),
    work_w=st.floats(100.0, 300.0),
    durations_s=st.lists(st.floats(0.2, 1.0), min_size=1, max_size=3),
)
def test_every_iteration_with_its_pause_is_below_the_limit(
    watts: float, work_w: float, durations_s: list[float]
) -> None:
    """Mean power stays below for all work, and pauses are no longer than needed."""
    machine = Machine(watts, work_w)
    for work_s in durations_s:
        mean_w, passed_s, warning = machine.iterate(work_s)
        # (work_w * work + idle_w * pause) / (work + pause) = watts, solved for the pause.
        pause_s = work_s * (work_w - watts) / (watts - IDLE_W)
        if pause_s < 9.0 * work_s:
            assert mean_w <= watts * (1 + 1e-6)
            assert passed_s <= work_s + pause_s + 0.051
            assert warning == ""


def test_work_below_the_limit_is_not_paused() -> None:
    """Nothing is lost where the limit does not bind."""
    machine = Machine(150.0, work_w=100.0)
    assert machine.iterate(1.0) == (pytest.approx(100.0), pytest.approx(1.0), "")


def test_limit_below_idle_power_ends_in_one_warning() -> None:
    """A limit that no pause can hold slows a run down and says so once; it does not stop it."""
    machine = Machine(10.0, work_w=100.0)
    _, passed_s, warning = machine.iterate(1.0)
    assert passed_s == pytest.approx(10.0, abs=0.1)
    assert "profile.watts=10: not held" in warning
    assert machine.iterate(1.0)[2] == ""


def test_stop_ends_a_pause() -> None:
    """A run that shall end does not sit out its pause, and nothing is warned of."""
    machine = Machine(30.0, work_w=100.0)
    machine.spend(1.0, 100.0)
    until_s = machine.clock.now_s + 0.5
    assert machine.throttle.wait(lambda: machine.clock.now_s >= until_s) == ""
    assert machine.clock.now_s == pytest.approx(until_s, abs=0.051)


def test_pauses_count_as_idle() -> None:
    """The time of a pause is in no phase of training."""
    machine = Machine(60.0, work_w=100.0)
    machine.iterate(1.0)
    assert machine.throttle.mean_power() == "60 W (measured)"
    phase_s = machine.meter.read().phase_s
    assert phase_s["sim"] == pytest.approx(1.0)
    assert phase_s["idle"] == pytest.approx(1.0, abs=0.06)


def test_no_limit_reads_no_meter() -> None:
    """Without a limit, waiting costs nothing."""
    machine = Machine(0.0, work_w=100.0)
    reads = machine.source.num_reads
    assert machine.throttle.wait() == ""
    assert machine.source.num_reads == reads
