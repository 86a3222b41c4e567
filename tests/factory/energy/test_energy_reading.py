"""Totals of several processes' meters."""

from __future__ import annotations

import dataclasses

import pytest

from factory.energy.reading import MeterReading, merge_readings
from factory.energy.types import Tier

HOST = MeterReading(
    wall_s=10.0,
    phase_s={"sim": 6.0, "learn": 3.0},
    phase_j={"sim": 60.0, "learn": 30.0},
    unattributed_s=1.0,
    unattributed_j=10.0,
    total_j=100.0,
    total_j_lo=90.0,
    total_j_hi=110.0,
    components_j={"cpu": 70.0, "dram": 30.0},
    cpu_s=12.0,
    mean_power_w=10.0,
    tier=Tier.MEASURED,
    phase_tier=Tier.APPORTIONED,
    component_tier={"cpu": Tier.MEASURED},
    boundary="host",
    overhead_s=0.1,
    lost_s=0.0,
)
OTHER_HOST = dataclasses.replace(
    HOST,
    total_j=50.0,
    total_j_lo=5.0,
    total_j_hi=90.0,
    phase_j={"sim": 30.0, "learn": 15.0},
    unattributed_j=5.0,
    components_j={"cpu": 50.0},
    tier=Tier.ESTIMATED,
    phase_tier=Tier.ESTIMATED,
    component_tier={"cpu": Tier.ESTIMATED},
    lost_s=2.0,
)
UNMETERED = dataclasses.replace(HOST, tier=Tier.NONE, total_j=float("nan"), cpu_s=11.0)


def test_one_process_is_itself() -> None:
    """Nothing changes while there are no others."""
    assert merge_readings([HOST]) == HOST


def test_process_beside_the_metered_one_adds_cpu_time_alone() -> None:
    """The joules of a host are counted once, however many processes run there."""
    assert merge_readings([HOST, UNMETERED]) == dataclasses.replace(HOST, cpu_s=23.0)
    assert merge_readings([UNMETERED, UNMETERED]).tier == Tier.NONE


def test_joules_of_hosts_add_up() -> None:
    """Totals, bounds, components and phases sum and still balance; the tier is the worst, seconds are rank
    0's.
    """
    both = merge_readings([HOST, UNMETERED, OTHER_HOST])
    assert (both.total_j, both.total_j_lo, both.total_j_hi) == (150.0, 95.0, 200.0)
    assert sum(both.phase_j.values()) + both.unattributed_j == pytest.approx(both.total_j, rel=1e-9)
    assert sum(both.components_j.values()) == pytest.approx(both.total_j, rel=1e-9)
    assert (both.tier, both.component_tier["cpu"], both.lost_s) == (Tier.ESTIMATED, Tier.ESTIMATED, 2.0)
    assert (both.wall_s, both.cpu_s, both.mean_power_w) == (10.0, 35.0, 15.0)


def test_power_of_a_resumed_run_is_joules_over_its_seconds() -> None:
    """The other host drew 5 W before and after each resume: parts follow one another, their powers do not add
    up.
    """
    part = dataclasses.replace(OTHER_HOST, mean_power_w=5.0)
    resumed = dataclasses.replace(HOST, wall_s=20.0, total_j=200.0)
    whole = merge_readings([resumed, merge_readings([part]), part])
    assert (whole.total_j, whole.mean_power_w) == (300.0, 15.0)


def test_hosts_that_meter_different_things_say_so() -> None:
    """Every boundary is named once, also after a resume."""
    small, large = (
        dataclasses.replace(OTHER_HOST, boundary=name) for name in ("allocation", "device+package")
    )
    others = merge_readings([small, large, small])
    assert others.boundary == "allocation and device+package"
    assert (
        merge_readings([HOST, others, small, UNMETERED]).boundary == "host and allocation and device+package"
    )
