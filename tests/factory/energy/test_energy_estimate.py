"""EstimateSource and the control group it reads: allocated cores only, wide bounds, never called more."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from statistics import fmean

import pytest
from energy_fakes import Clock, FakeCgroup
from hypothesis import given
from hypothesis import strategies as st

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.sources.base import SourceError
from factory.energy.sources.calibration import Calibration, fit_calibration
from factory.energy.sources.estimate import EstimateConfig, EstimateSource
from factory.energy.types import Boundary, Tier


def estimate_j(
    *, busy_s: float, seconds: float, num_cores: float, config: EstimateConfig | None = None
) -> float:
    """Return the CPU joules of one window."""
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(config, clock, cgroup=group, num_cores=num_cores)
    source.open()
    clock.advance(seconds)
    group.used_s += busy_s
    return source.read().components_j["cpu"]


def test_linear_model_of_the_allocated_cores() -> None:
    """Four threads, half busy for 10 s: 4 * (0.74 + 0.5 * 2.76) * 10 J, and 3 W of memory."""
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(None, clock, cgroup=group, num_cores=4.0)
    capability = source.open()
    clock.advance(10.0)
    group.used_s += 20.0
    reading = source.read()
    assert reading.components_j == {"cpu": pytest.approx(84.8), "dram": pytest.approx(30.0)}
    assert (capability.tier, capability.boundary) == (Tier.ESTIMATED, Boundary.ALLOCATION)
    assert reading.lo_j == pytest.approx(4 * 0.37 * 10.0 + 15.0)
    assert reading.hi_j == pytest.approx(4 * 10.0 * 10.0 + 60.0)


@given(
    steps=st.lists(st.tuples(st.floats(0.001, 100.0), st.floats(0.0, 1.0)), min_size=1, max_size=20),
    num_cores=st.floats(0.1, 256.0),
)
def test_bounds_hold_and_energy_rises(steps: list[tuple[float, float]], num_cores: float) -> None:
    """For any load the figure rises, and 0 < lo <= value <= hi."""
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(None, clock, cgroup=group, num_cores=num_cores)
    source.open()
    before_j = 0.0
    for seconds, load in steps:
        clock.advance(seconds)
        group.used_s += load * num_cores * seconds
        reading = source.read()
        assert reading.cumulative_j >= before_j
        assert 0.0 < reading.lo_j <= reading.cumulative_j <= reading.hi_j
        before_j = reading.cumulative_j


@given(truth_w=st.floats(0.38, 9.99), load=st.floats(0.0, 1.0))
def test_interval_holds_any_plausible_core(truth_w: float, load: float) -> None:
    """Whatever a hardware thread really draws between half of idle and 10 W, the interval holds it."""
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(EstimateConfig(ram_w_per_gb=0.0), clock, cgroup=group, num_cores=2.0)
    source.open()
    clock.advance(30.0)
    group.used_s += load * 60.0
    assert truth_w * 60.0 in source.read().interval


def test_c1_one_model_so_no_process_exceeds_its_machine() -> None:
    """Half load costs less than full load, idle is not free, and pinned work is capped at its cores."""
    idle, half, full, over = (
        estimate_j(busy_s=busy_s, seconds=10.0, num_cores=2.0) for busy_s in (0.0, 10.0, 20.0, 500.0)
    )
    assert 0.0 < idle < half < full
    assert over == full


def test_c2_allocation_counts_not_the_host() -> None:
    """Two threads of a 128-thread host pay for two."""
    ratio = estimate_j(busy_s=0.0, seconds=10.0, num_cores=128.0) / estimate_j(
        busy_s=0.0, seconds=10.0, num_cores=2.0
    )
    assert ratio == pytest.approx(64.0)


def test_memory_without_limit_counts_what_is_resident() -> None:
    """On an unlimited host memory is what the process holds, not what the host has."""
    clock = Clock()
    source = EstimateSource(None, clock, cgroup=FakeCgroup(memory_bytes=None), num_cores=1.0)
    source.open()
    clock.advance(10.0)
    assert source.read().components_j["dram"] == pytest.approx(2.0 * 0.375 * 10.0)


def test_calibration_raises_the_tier_and_narrows_the_bounds() -> None:
    """Coefficients from an outside meter make the figure `calibrated`, with that meter's interval."""
    calibration = fit_calibration(
        [0.0, 1.0, 2.0, 4.0], power_w=[4.0, 7.0, 10.0, 16.0], num_cores=4.0, origin="wall plug, 1 May"
    )
    assert (calibration.idle_w_per_core, calibration.max_w_per_core) == (
        pytest.approx(1.0),
        pytest.approx(4.0),
    )
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(EstimateConfig(calibration=calibration), clock, cgroup=group, num_cores=4.0)
    capability = source.open()
    clock.advance(10.0)
    group.used_s += 20.0
    reading = source.read()
    assert capability.tier is reading.tier is Tier.CALIBRATED
    assert "wall plug, 1 May" in " ".join(capability.details)
    assert reading.components_j == {"cpu": pytest.approx(100.0)}
    assert (reading.lo_j, reading.hi_j) == (pytest.approx(98.0), pytest.approx(102.0))


def test_calibration_residuals_widen_the_interval() -> None:
    """A scattered fit declares its scatter."""
    fit = fit_calibration([0.0, 1.0, 2.0, 3.0], power_w=[5.0, 7.0, 11.0, 12.0], num_cores=4.0, origin="plug")
    assert fit.relative_u > 0.05


@pytest.mark.parametrize("count", [3, 4, 5, 12])
@pytest.mark.parametrize("noise", [0.005, 0.03])
def test_calibrated_interval_holds_the_true_power(count: int, noise: float) -> None:
    """However few and noisy the readings, the interval of the fit holds the true power in at least 95 % of
    trials.
    """
    rng, hits = random.Random(7), []
    for _ in range(400):
        idle_w, busy_w = rng.uniform(0.5, 5.0), rng.uniform(6.0, 12.0)
        loads = [8.0 * index / (count - 1) for index in range(count)]
        truth_w = [8.0 * idle_w + (busy_w - idle_w) * load for load in loads]
        shown_w = [power_w + rng.gauss(0.0, noise * fmean(truth_w)) for power_w in truth_w]
        fit = fit_calibration(loads, power_w=shown_w, num_cores=8.0, origin="plug")
        clock, group = Clock(), FakeCgroup()
        source = EstimateSource(EstimateConfig(calibration=fit), clock, cgroup=group, num_cores=8.0)
        source.open()
        clock.advance(10.0)
        load = rng.uniform(0.0, 8.0)
        group.used_s += 10.0 * load
        hits.append(10.0 * (8.0 * idle_w + (busy_w - idle_w) * load) in source.read().interval)
    assert fmean(hits) >= 0.95


def test_calibration_needs_three_loads() -> None:
    """Two loads define a line and no scatter."""
    with pytest.raises(ValueError, match="3 or more loads"):
        fit_calibration([0.0, 1.0, 1.0], power_w=[5.0, 7.0, 7.1], num_cores=4.0, origin="plug")


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: EstimateConfig(idle_w_per_core=5.0), "energy.estimate.idle_w_per_core=5.0"),
        (lambda: EstimateConfig(highest_w_per_core=1.0), "energy.estimate.highest_w_per_core=1.0"),
        (lambda: EstimateConfig(ram_w_per_gb=-1.0), "energy.estimate.ram_w_per_gb=-1.0"),
        (
            lambda: Calibration(idle_w_per_core=1.0, max_w_per_core=2.0, relative_u=0.0, origin="x"),
            "energy.estimate.calibration.relative_u=0.0",
        ),
        (
            lambda: Calibration(idle_w_per_core=1.0, max_w_per_core=2.0, relative_u=0.02),
            "energy.estimate.calibration.origin=''",
        ),
        (lambda: Calibration(relative_u=0.02, origin="x"), "energy.estimate.calibration.max_w_per_core=0.0"),
        (
            lambda: Calibration(idle_w_per_core=3.0, max_w_per_core=2.0, relative_u=0.02, origin="x"),
            "energy.estimate.calibration.idle_w_per_core=3.0",
        ),
    ],
)
def test_bad_coefficients_name_their_key(make: object, key: str) -> None:
    """A wrong coefficient is refused with its full key and value."""
    with pytest.raises(ValueError, match=key):
        make()  # type: ignore[operator]


def test_cpu_time_that_runs_backwards_is_lost() -> None:
    """A control group that was replaced loses the window."""
    clock, group = Clock(), FakeCgroup()
    source = EstimateSource(None, clock, cgroup=group, num_cores=1.0)
    source.open()
    clock.advance(3.0)
    group.used_s -= 50.0
    reading = source.read()
    assert (reading.cumulative_j, reading.lost_s) == (0.0, pytest.approx(3.0))


# ---- control groups ---------------------------------------------------------------------------------------


def write(path: Path, text: str) -> None:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def fake_v2(root: Path, *, place: str = "/job/task", mount_root: str = "/") -> Cgroup:
    """Return the group of a process in a v2 hierarchy under `root`."""
    write(root / "proc/cgroup", f"0::{place}\n")
    write(root / "proc/mountinfo", f"30 23 0:26 {mount_root} {root}/fs rw - cgroup2 cgroup2 rw\n")
    return Cgroup(root / "proc")


def test_v2_usage_quota_and_memory_of_the_tightest_ancestor(tmp_path: Path) -> None:
    """CPU time is the group's own; limits are the tightest on the way up."""
    write(tmp_path / "fs/job/task/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    write(tmp_path / "fs/job/task/cpu.max", "max 100000\n")
    write(tmp_path / "fs/job/cpu.max", "150000 100000\n")
    write(tmp_path / "fs/job/task/memory.max", "4000000000\n")
    write(tmp_path / "fs/job/memory.max", "max\n")
    group = fake_v2(tmp_path)
    assert group.usage_s() == pytest.approx(2.5)
    assert group.quota_cores() == pytest.approx(1.5)
    assert group.memory_limit_bytes() == 4 * 10**9
    assert "v2" in group.usage_origin


def test_v2_container_that_sees_a_host_path_uses_its_mount(tmp_path: Path) -> None:
    """A host path that is not mounted here falls back to the top of what is."""
    write(tmp_path / "fs/cpu.stat", "usage_usec 7000000\n")
    assert fake_v2(tmp_path, place="/../../host/slice").usage_s() == pytest.approx(7.0)
    assert fake_v2(tmp_path, place="/docker/abc", mount_root="/docker/abc").usage_s() == pytest.approx(7.0)


def test_v1_usage_quota_and_memory(tmp_path: Path) -> None:
    """Version 1 keeps each controller in its own tree."""
    write(tmp_path / "proc/cgroup", "5:cpu,cpuacct:/pod\n4:memory:/pod\n0::/\n")
    mounts = [
        f"31 23 0:27 / {tmp_path}/fs/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        f"32 23 0:28 / {tmp_path}/fs/memory rw - cgroup cgroup rw,memory",
    ]
    write(tmp_path / "proc/mountinfo", "\n".join(mounts))
    write(tmp_path / "fs/cpu/pod/cpuacct.usage", "3000000000\n")
    write(tmp_path / "fs/cpu/pod/cpu.cfs_quota_us", "50000\n")
    write(tmp_path / "fs/cpu/pod/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "fs/memory/pod/memory.limit_in_bytes", "9223372036854771712\n")
    group = Cgroup(tmp_path / "proc")
    assert group.usage_s() == pytest.approx(3.0)
    assert group.quota_cores() == pytest.approx(0.5)
    assert group.memory_limit_bytes() is None
    assert "v1" in group.usage_origin


def test_group_without_cpu_time_leaves_it_to_the_process(tmp_path: Path) -> None:
    """A `cpu.stat` without usage, as at the root of old kernels, is passed over."""
    write(tmp_path / "fs/job/task/cpu.stat", "nr_periods 0\n")
    assert "process" in fake_v2(tmp_path).usage_origin


def test_without_cgroups_the_process_counts_itself(tmp_path: Path) -> None:
    """Where no control group is to be found the CPU time is that of the process."""
    group = Cgroup(tmp_path)
    before_s = group.usage_s()
    sum(range(200_000))
    assert group.usage_s() > before_s
    assert group.quota_cores() is None
    assert "process" in group.usage_origin


def test_quota_and_affinity_limit_the_allocation(tmp_path: Path) -> None:
    """The allocation is the smaller of affinity and quota."""
    write(tmp_path / "fs/job/task/cpu.max", "25000 100000\n")
    assert allocated_cores(fake_v2(tmp_path)) == pytest.approx(0.25)
    write(tmp_path / "fs/job/task/cpu.max", "max 100000\n")
    assert 1.0 <= allocated_cores(fake_v2(tmp_path)) == int(allocated_cores(fake_v2(tmp_path)))


def test_vanished_group_is_a_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control group that goes away raises SourceError, which the meter understands."""

    def gone(*place: int) -> bytes:
        raise OSError(errno.ENODEV, "No such device")  # what Linux says

    write(tmp_path / "fs/job/task/cpu.stat", "usage_usec 1\n")
    source = EstimateSource(None, Clock(), cgroup=fake_v2(tmp_path), num_cores=1.0)
    source.open()
    monkeypatch.setattr(os, "pread", gone)
    with pytest.raises(SourceError):
        source.read()


def test_this_machine_can_be_estimated() -> None:
    """On the machine that runs the tests, whatever it is, the estimate opens and rises."""
    source = EstimateSource()
    capability = source.open()
    sum(range(500_000))
    reading = source.read()
    assert 0.0 < reading.lo_j <= reading.cumulative_j <= reading.hi_j
    assert capability.details
