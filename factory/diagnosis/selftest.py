"""A real load under the run's own meter: idle, physics on all cores, then matrix products."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from factory.diagnosis.finding import Finding, Status
from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.config import EnergyConfig
from factory.energy.meter import Meter
from factory.energy.reading import MeterReading
from factory.energy.types import Tier
from factory.runtime import device as devices
from factory.runtime.strict_json import nan_to_none

_SHARES = {"idle": 0.2, "sim": 0.4, "learn": 0.4}
"""Parts of the test and their shares of its time; the names are phases of the meter."""
_NUM_WORLDS = 256
"""Enough quadrupeds to keep all cores of a workstation busy."""
_MATRIX = {"cpu": 512, "cuda": 4096}
"""Rows of the square matrices; a GPU needs large ones to be busy."""
_RISE = 1.05
"""Smallest ratio of power under load to power at rest that counts as a response."""
_COUNTED = (Tier.MEASURED, Tier.SAMPLED, Tier.APPORTIONED, Tier.SHARED)
"""Tiers that come from hardware, so that a check of their power proves something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """Readings of the meter, after each part and at the end."""

    reading: MeterReading
    marks: tuple[MeterReading, ...]
    """Readings at the start and after each part, in the order of `_SHARES`."""
    cores: float
    """Hardware threads this process may use."""
    highest_w_per_core: float
    lowest_w_per_core: float

    @property
    def mean_load_cores(self) -> float:
        """Return how many hardware threads this process kept busy under load."""
        # CPU seconds per second, from the end of the idle part to the end of the test.
        idle = self.marks[1]
        end = self.marks[-1]
        return (end.cpu_s - idle.cpu_s) / max(end.wall_s - idle.wall_s, 1e-9)

    def rows(self) -> list[dict[str, Any]]:
        """Return joules, watts and CPU time of each part, the rest and the total; NaN becomes None."""
        total = self.reading
        rows = [
            _row(
                part,
                seconds=total.phase_s[part],
                joules=total.phase_j[part],
                cpu_s=after.cpu_s - before.cpu_s,
            )
            for part, (before, after) in zip(_SHARES, pairwise(self.marks), strict=True)
        ]
        rows.append(
            _row("unattributed", seconds=total.unattributed_s, joules=total.unattributed_j, cpu_s=math.nan)
        )
        rows.append(_row("total", seconds=total.wall_s, joules=total.total_j, cpu_s=total.cpu_s))
        return rows


def run(cfg: EnergyConfig, device: str, *, seconds: float) -> SelfTest:
    """Put load on the machine for `seconds` and meter it.

    Raises:
        ValueError: If the configured energy source cannot be used here.
    """
    devices.set_up(0)
    meter = Meter.from_config(cfg, device)
    parts = {"idle": lambda: time.sleep(0.01), "sim": _physics(), "learn": _products(device)}
    # The first call starts threads and loads kernels, which is no part of the load.
    parts["sim"]()
    parts["learn"]()
    meter.start()
    marks = [meter.read()]
    for name, part in parts.items():
        end_s = time.perf_counter() + _SHARES[name] * seconds
        while time.perf_counter() < end_s:
            with meter.phase(name):
                part()
        marks.append(meter.read())
    meter.close()
    return SelfTest(
        reading=meter.read(),
        marks=tuple(marks),
        cores=allocated_cores(Cgroup()),
        highest_w_per_core=cfg.estimate.highest_w_per_core,
        lowest_w_per_core=0.5 * cfg.estimate.idle_w_per_core,
    )


def judge(test: SelfTest) -> list[Finding]:
    """Return findings about the energy sources, from the readings of the self-test."""
    reading = test.reading
    if reading.tier == Tier.NONE:
        return [
            _finding(
                "energy sources", Status.MISSING, "nothing was metered: seconds only, joules are unknown"
            )
        ]
    return [
        _sum(reading),
        _advance(test),
        _overhead(reading),
        _plausible(test),
        _response(test),
        _cpu_use(test),
    ]


def _sum(reading: MeterReading) -> Finding:
    # Equal by construction but for rounding: a larger gap means that joules were lost or counted twice.
    gap_j = abs(math.fsum(reading.phase_j.values()) + reading.unattributed_j - reading.total_j)
    gap_s = abs(math.fsum(reading.phase_s.values()) + reading.unattributed_s - reading.wall_s)
    holds = gap_j <= 1e-9 * reading.total_j and gap_s <= 1e-9 * reading.wall_s
    text = f"phases and the unattributed rest add up to the total: off by {gap_j:.1g} J and {gap_s:.1g} s"
    if holds:
        return _finding("sums", Status.OK, text)
    return _finding("sums", Status.MISSING, f"broken: {text}")


def _advance(test: SelfTest) -> Finding:
    # Every component draws some power at all times, so a counter that does not rise is stuck.
    names = sorted(test.reading.component_tier)
    rises = {name: [mark.components_j.get(name, 0.0) for mark in test.marks] for name in names}
    stuck = [name for name, values in rises.items() if any(b <= a for a, b in pairwise(values))]
    lost = ""
    if test.reading.lost_s:
        lost = f"; {test.reading.lost_s:.2g} s were lost"
    if stuck or lost:
        text = f"{', '.join(stuck) or 'no component'} stood still in some part of the test{lost}"
        return _finding(
            "counters", Status.LIMITED, text, "repeat with seconds=60; if it stays, energy=estimate"
        )
    return _finding("counters", Status.OK, f"{', '.join(names)} rose in every part of the test")


def _overhead(reading: MeterReading) -> Finding:
    share = reading.overhead_s / reading.wall_s
    text = f"metering took {reading.overhead_s * 1e3:.3g} ms of {reading.wall_s:.1f} s, {100 * share:.2g} %"
    # One per cent is the promise of docs/energy.md.
    if share < 0.01:
        return _finding("overhead", Status.OK, text)
    return _finding("overhead", Status.LIMITED, text)


def _plausible(test: SelfTest) -> Finding:
    """Compare the CPU's power under load with the usual power of hardware threads."""
    # The estimate uses the same coefficients as this check, so agreement would prove nothing.
    tier = test.reading.component_tier.get("cpu")
    if tier not in _COUNTED:
        text = "not checked: the estimate uses the same coefficients, so agreement proves nothing"
        return _finding("power", Status.LIMITED, text, "compare with a wall meter")
    idle = test.marks[1]
    end = test.marks[-1]
    power_w = (end.components_j["cpu"] - idle.components_j["cpu"]) / (end.wall_s - idle.wall_s)
    # All threads of the machine, since the counter covers whole packages.
    threads = os.cpu_count() or 1
    low_w = test.lowest_w_per_core * threads
    high_w = test.highest_w_per_core * threads
    # Half of a typical idle power to the largest power of a desktop core, for each thread.
    range_text = f"{low_w:.0f} to {high_w:.0f} W, where {threads} hardware threads usually lie under load"
    if low_w <= power_w <= high_w:
        return _finding("power", Status.OK, f"{power_w:.1f} W of the CPU are within {range_text}")
    remedy = "compare with a wall meter before you trust the counter"
    return _finding(
        "power", Status.LIMITED, f"{power_w:.1f} W of the CPU are outside of {range_text}", remedy
    )


def _response(test: SelfTest) -> Finding:
    """Compare power under load with power at rest; a counter that hardly rises includes other work."""
    idle_w, *load_w = (row["watts"] or 0.0 for row in test.rows()[: len(_SHARES)])
    text = (
        f"{idle_w:.3g} W while this process slept, {min(load_w):.3g} to {max(load_w):.3g} W while it worked"
    )
    if min(load_w) > _RISE * idle_w:
        return _finding("response", Status.OK, f"power follows the load: {text}")
    text = (
        f"power hardly follows the load: {text}; other work on the same counters or in the control group "
        "hides it"
    )
    remedy = "repeat when nothing else runs; if power still does not follow the load, mistrust the source"
    return _finding("response", Status.LIMITED, text, remedy)


def _cpu_use(test: SelfTest) -> Finding:
    # The load only tests the meter if it really keeps the cores busy.
    busy = test.mean_load_cores
    text = (
        f"the load kept {busy:.1f} of {test.cores:g} hardware threads busy, by the kernel's count of CPU time"
    )
    if busy >= 0.8 * test.cores:
        return _finding("load", Status.OK, text)
    return _finding(
        "load", Status.LIMITED, text, "other work uses the cores, or they wait for a GPU: see machine: load"
    )


def _physics() -> Callable[[], None]:
    from factory.envs.tasks.quadruped_velocity import QuadrupedVelocity

    # The engine alone: rewards and observations would add Python to a load that should be physics.
    env = QuadrupedVelocity(num_envs=_NUM_WORLDS, seed=0)
    env.reset(seed=0)
    return lambda: env.physics.step(4)


def _products(device: str) -> Callable[[], None]:
    # Rows of unit length on average and tanh keep the product from overflowing.
    rows = _MATRIX[device]
    left = torch.randn(rows, rows, device=device) * rows**-0.5

    def multiply() -> None:
        product = left
        for _ in range(8):
            product = torch.tanh(left @ product)
        # Reading a number waits for the device, so that its work ends within the phase.
        product[0, 0].item()

    return multiply


def _row(part: str, *, seconds: float, joules: float, cpu_s: float) -> dict[str, Any]:
    watts = math.nan
    if seconds:
        watts = joules / seconds
    values = {"seconds": seconds, "joules": joules, "watts": watts, "cpu_s": cpu_s}
    return {"part": part} | nan_to_none(values)


def _finding(name: str, status: Status, text: str, remedy: str = "") -> Finding:
    return Finding(section="self-test", name=name, status=status, text=text, remedy=remedy)
