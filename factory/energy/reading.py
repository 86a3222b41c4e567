"""What the meter shows: joules and seconds of a run, split by phase and by component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

from factory.energy.types import Interval, Tier

_AND = " and "
"""Between the boundaries of hosts that meter different things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """Totals of a run since it first started, resumed parts included.

    Phases and `unattributed` sum to the total, in joules and in seconds. Joules are NaN if nothing is
    metered.
    """

    wall_s: float
    """Time metered [s]; the time between an interruption and the resumption is not in it."""
    phase_s: dict[str, float]
    phase_j: dict[str, float]
    unattributed_s: float
    unattributed_j: float
    total_j: float
    """Gross energy inside `boundary` [J], without what was used in `lost_s`."""
    total_j_lo: float
    total_j_hi: float
    cpu_j: float
    gpu_j: float
    dram_j: float
    cpu_s: float
    """CPU time of this process, all its threads and its children [s]; counted, not modelled."""
    mean_power_w: float
    tier: str
    """Worst tier of any component of the total."""
    phase_tier: str
    """Tier of the split into phases, never better than `tier`."""
    component_tier: dict[str, str]
    """Tier of each component that is in the total."""
    boundary: str
    overhead_s: float
    """Time spent in metering itself [s]; waiting for the GPU to drain is not in it."""
    lost_s: float
    """Time during which some source could not be read [s]."""

    @property
    def energy(self) -> Interval:
        """Return the total with its bounds [J]."""
        return Interval(self.total_j, self.total_j_lo, self.total_j_hi)

    def metrics(self) -> dict[str, float]:
        """Return the ledger's `energy/` and `time/` figures; joules are left out if nothing is metered."""
        phases = ("sim", "infer", "learn")
        times = {"time/wall_s": self.wall_s, **{f"time/{phase}_s": self.phase_s[phase] for phase in phases}}
        if self.tier == Tier.NONE:
            return times
        totals = (
            "total_j",
            "cpu_j",
            "gpu_j",
            "dram_j",
            "unattributed_j",
            "total_j_lo",
            "total_j_hi",
            "mean_power_w",
        )
        energies = {f"energy/{key}": getattr(self, key) for key in totals}
        return (
            times | energies | {f"energy/phase/{phase}_j": joules for phase, joules in self.phase_j.items()}
        )

    def describe(self) -> str:
        """Return the total in one line that cannot be quoted without its tier and bounds."""
        if self.tier == Tier.NONE:
            return "energy not metered"
        lost = f", {self.lost_s:.3g} s lost" if self.lost_s > 0.0 else ""
        bounds = f"[{self.total_j_lo:.4g}, {self.total_j_hi:.4g}]"
        return f"{self.total_j:.4g} J {bounds} {self.tier} ({self.boundary}{lost})"


def merge_readings(readings: Sequence[MeterReading]) -> MeterReading:
    """Return the totals of processes that ran side by side; one in each host metered it, all counted their CPU time.

    Joules, their bounds and CPU times add up; seconds are the first one's, and power is the joules over them.
    """
    metered = [reading for reading in readings if reading.tier != Tier.NONE]
    if len(readings) == 1 or not metered:
        return replace(readings[0], cpu_s=sum(reading.cpu_s for reading in readings))
    components: dict[str, str] = {}
    for name, tier in (pair for reading in metered for pair in reading.component_tier.items()):
        components[name] = Tier.worst((Tier(tier), Tier(components.get(name, tier))))
    keys = ("unattributed_j", "total_j", "total_j_lo", "total_j_hi", "cpu_j", "gpu_j", "dram_j")
    sums: dict[str, Any] = {key: sum(getattr(reading, key) for reading in metered) for key in keys}
    wall_s = readings[0].wall_s
    boundaries = (boundary for reading in metered for boundary in reading.boundary.split(_AND))
    return replace(
        readings[0],
        **sums,
        mean_power_w=sums["total_j"] / wall_s if wall_s > 0.0 else nan,
        boundary=_AND.join(dict.fromkeys(boundaries)),
        phase_j={phase: sum(reading.phase_j[phase] for reading in metered) for phase in metered[0].phase_j},
        cpu_s=sum(reading.cpu_s for reading in readings),
        tier=Tier.worst(Tier(reading.tier) for reading in metered),
        phase_tier=Tier.worst(Tier(reading.phase_tier) for reading in metered),
        component_tier=components,
        lost_s=max(reading.lost_s for reading in metered),
    )
