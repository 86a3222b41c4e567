"""NodeMeter: totals that never fall, split into load and idle, through failures and restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from energy_fakes import Clock, PowerSource, RaplTree

from factory.energy.claim import Scope
from factory.energy.sources.estimate import EstimateConfig, EstimateSource
from factory.energy.sources.rapl import RaplSource
from factory.floor.node_meter import NodeMeter, NodeReading


class FakeGroup:
    """A control group with a settable CPU time."""

    used_s = 100.0
    usage_origin = "a test"

    def usage_s(self) -> float:
        """Return the CPU time."""
        return self.used_s

    def memory_limit_bytes(self) -> int | None:
        """Return no limit."""
        return None

    def resident_bytes(self) -> int:
        """Return nothing."""
        return 0


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


def test_time_without_a_meter_is_in_the_next_reading(tmp_path: Path) -> None:
    """Counters that went on while the floor was dead are read in full, estimates are computed for the gap."""
    tree = RaplTree(tmp_path, Clock())
    tree.add("intel-rapl:0", "package-0", 20.0)

    def opened(since: NodeReading | None) -> NodeMeter:
        source = RaplSource(tree.root, tree.clock, run_share=1.0)
        return NodeMeter(
            [source], cpu_s=lambda: tree.clock.now_s, num_cores=1.0, since=since, clock_ns=tree.clock
        )

    first = opened(None)
    tree.advance(5.0)
    before = NodeReading(**json.loads(json.dumps(asdict(first.read()))))
    tree.advance(60.0)
    second = opened(before)
    tree.advance(5.0)
    reading = second.read()
    assert reading.joules_total == pytest.approx(20.0 * 70.0)
    assert reading.cpu_s == pytest.approx(70.0)
    # After a restart of the machine the counters have restarted too: nothing is known of the time between.
    third = opened(replace(before, boot_id="another boot"))
    tree.advance(5.0)
    assert third.read().joules_total == pytest.approx(20.0 * 10.0)


def test_estimate_covers_the_time_without_a_meter() -> None:
    """CPU time that the kernel counted meanwhile is billed, together with the idle power of that time."""
    clock, group = Clock(), FakeGroup()

    def opened(since: NodeReading | None) -> NodeMeter:
        source = EstimateSource(
            EstimateConfig(ram_w_per_gb=0.0),
            clock,
            cgroup=group,  # type: ignore[arg-type]
            num_cores=2.0,
            scope=Scope.NODE,
        )
        return NodeMeter([source], cpu_s=group.usage_s, num_cores=2.0, since=since, clock_ns=clock)

    first = opened(None)
    clock.advance(10.0)
    group.used_s += 10.0
    before = first.read()
    clock.advance(100.0)
    group.used_s += 50.0
    second = opened(before)
    clock.advance(10.0)
    reading = second.read()
    assert reading.idle_j == pytest.approx(0.74 * 2.0 * 120.0)
    assert reading.dynamic_j == pytest.approx((3.5 - 0.74) * 60.0)
    assert reading.cpu_s == pytest.approx(60.0)
    assert reading.lo_j <= reading.joules_total <= reading.hi_j


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
