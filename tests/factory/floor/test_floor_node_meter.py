"""NodeMeter: totals that never fall, split into load and idle, through failures and restarts."""

from __future__ import annotations

import pytest
from energy_fakes import Clock, PowerSource

from factory.floor.node_meter import NodeMeter


def test_counter_without_idle_power_is_all_load() -> None:
    """A counter cannot tell idle from load; where the idle power is known it is taken off."""
    for idle_w, idle_j in ((0.0, 0.0), (12.0, 120.0), (99.0, 300.0)):
        clock = Clock()
        meter = NodeMeter(
            [PowerSource(clock, 30.0)], cpu_s=lambda: 5.0, num_cores=4.0, idle_w=idle_w, clock_ns=clock
        )
        clock.advance(10.0)
        reading = meter.read()
        assert reading.idle_j == pytest.approx(idle_j)
        assert reading.joules_total == pytest.approx(300.0)
        assert (reading.lo_j, reading.hi_j) == (pytest.approx(270.0), pytest.approx(330.0))
        assert reading.tier == "measured"


def test_gpu_is_kept_apart() -> None:
    """Energy of GPUs is neither load nor idle of the CPUs."""
    clock = Clock()
    sources = [PowerSource(clock, 30.0), PowerSource(clock, 200.0, component="gpu")]
    meter = NodeMeter(sources, cpu_s=lambda: 0.0, num_cores=4.0, clock_ns=clock)
    clock.advance(2.0)
    reading = meter.read()
    assert (reading.gpu_j, reading.dynamic_j) == (pytest.approx(400.0), pytest.approx(60.0))


def test_meter_goes_on_from_an_earlier_one() -> None:
    """A floor that is started again keeps its totals."""
    clock = Clock()
    first = NodeMeter([PowerSource(clock, 10.0)], cpu_s=lambda: clock.now_s, num_cores=1.0, clock_ns=clock)
    clock.advance(5.0)
    before = first.read()
    second = NodeMeter(
        [PowerSource(clock, 10.0)], cpu_s=lambda: clock.now_s, num_cores=1.0, since=before, clock_ns=clock
    )
    clock.advance(5.0)
    reading = second.read()
    assert reading.joules_total == pytest.approx(100.0)
    assert reading.cpu_s == pytest.approx(10.0)


def test_this_host_has_a_meter() -> None:
    """On the machine that runs the tests energy, CPU time and bounds rise."""
    meter = NodeMeter.open()
    before = meter.read()
    sum(range(2_000_000))
    after = meter.read()
    meter.close()
    assert after.joules_total > before.joules_total
    assert after.cpu_s > before.cpu_s
    assert after.lo_j <= after.joules_total <= after.hi_j
