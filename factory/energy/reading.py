"""Totals of a run as the meter reports them: joules and seconds, split by phase and by component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

from factory.energy.types import COMPONENTS, Interval, Tier

_AND = " and "
"""Joins the boundaries of hosts that meter different things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """Totals of a run since it first started, resumed parts included.

    Phases and `unattributed` sum to the total, in joules and in seconds; so do the components, in joules.
    Joules are NaN if nothing is metered.
    """

    wall_s: float
    """Time metered [s]; the time between an interruption and the resumption is not in it."""
    phase_s: dict[str, float]
    phase_j: dict[str, float]
    unattributed_s: float
    unattributed_j: float
    total_j: float
    """Gross energy inside `boundary` [J], without the energy used during `lost_s`."""
    total_j_lo: float
    total_j_hi: float
    components_j: dict[str, float]
    """Energy of each component [J]; empty if nothing is metered."""
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
    is_shared: bool = False
    """True once others were seen to use the metered hardware: the joules are what this run may claim."""

    @property
    def is_metered(self) -> bool:
        """Tell whether there are joules at all."""
        return self.tier != Tier.NONE

    @property
    def energy(self) -> Interval:
        """Return the total with its bounds [J]."""
        return Interval(self.total_j, self.total_j_lo, self.total_j_hi)

    def metrics(self) -> dict[str, float]:
        """Return the metrics `energy/...`; none if nothing is metered."""
        if not self.is_metered:
            return {}
        # A component without a source contributes 0 J to this total, so it is reported as 0 and not left out.
        components_j = dict.fromkeys(COMPONENTS, 0.0) | self.components_j
        totals = {
            "energy/total_j": self.total_j,
            "energy/total_j_lo": self.total_j_lo,
            "energy/total_j_hi": self.total_j_hi,
            "energy/unattributed_j": self.unattributed_j,
            "energy/mean_power_w": self.mean_power_w,
        }
        by_component = {f"energy/{name}_j": joules for name, joules in components_j.items()}
        by_phase = {f"energy/phase/{phase}_j": joules for phase, joules in self.phase_j.items()}
        return totals | by_component | by_phase

    def describe(self) -> str:
        """Return the total in one line, always with its tier and bounds."""
        if not self.is_metered:
            return "energy not metered"
        lost = ""
        if self.lost_s > 0.0:
            lost = f", {self.lost_s:.3g} s lost"
        shared = ""
        if self.is_shared:
            shared = ", shared with others"
        bounds = f"[{self.total_j_lo:.4g}, {self.total_j_hi:.4g}]"
        return f"{self.total_j:.4g} J {bounds} {self.tier} ({self.boundary}{shared}{lost})"


def merge_readings(readings: Sequence[MeterReading]) -> MeterReading:
    """Return the totals of processes that ran side by side.

    On each host one process meters for all, but every process counts its own CPU time. So joules, their
    bounds and CPU times add up; seconds are those of the first process, and power is joules over seconds.
    """
    first = readings[0]
    cpu_s = sum(reading.cpu_s for reading in readings)
    # Ranks other than the host's first have no sources, and no joules that could be added.
    metered = [reading for reading in readings if reading.is_metered]
    if len(readings) == 1 or not metered:
        return replace(first, cpu_s=cpu_s)
    total_j = sum(reading.total_j for reading in metered)
    mean_power_w = nan
    if first.wall_s > 0.0:
        mean_power_w = total_j / first.wall_s
    # Hosts usually meter the same hardware, whose boundary is then named once.
    boundaries = [boundary for reading in metered for boundary in reading.boundary.split(_AND)]
    return replace(
        first,
        phase_j=_sum_by_name([reading.phase_j for reading in metered]),
        unattributed_j=sum(reading.unattributed_j for reading in metered),
        total_j=total_j,
        # Bound to bound: errors of equal sensors may be fully correlated, so they must not average out.
        total_j_lo=sum(reading.total_j_lo for reading in metered),
        total_j_hi=sum(reading.total_j_hi for reading in metered),
        components_j=_sum_by_name([reading.components_j for reading in metered]),
        cpu_s=cpu_s,
        mean_power_w=mean_power_w,
        tier=_worst([reading.tier for reading in metered]),
        phase_tier=_worst([reading.phase_tier for reading in metered]),
        component_tier=worst_by_name([reading.component_tier for reading in metered]),
        boundary=_AND.join(dict.fromkeys(boundaries)),
        is_shared=any(reading.is_shared for reading in metered),
        lost_s=max(reading.lost_s for reading in metered),
    )


def worst_by_name(tables: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the worst tier that each name has in any of the tables."""
    # A dict instead of a set keeps the order of first appearance, so that output does not vary.
    names = {name: None for table in tables for name in table}
    return {name: _worst([table[name] for table in tables if name in table]) for name in names}


def _worst(tiers: Sequence[str]) -> str:
    return Tier.worst(Tier(tier) for tier in tiers).value


def _sum_by_name(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    # As above, in the order of first appearance.
    names = {name: None for table in tables for name in table}
    return {name: sum(table.get(name, 0.0) for table in tables) for name in names}
