"""The meter's running totals; they add up across the parts of a resumed run and are stored as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from math import fsum, nan, sqrt
from typing import Any

from factory.energy.channel import Channel
from factory.energy.reading import MeterReading, worst_by_name
from factory.energy.types import PHASES, Tier

NUM_SLOTS = len(PHASES) + 1
"""Slots of the timeline: the phases, then the unattributed rest."""
_ADDED = {"is_shared"}
"""Fields that the states of earlier versions lack."""
_WHOLE_SHARE = 0.999
"""Smallest share of a window at which a phase counts as alone in it."""
_LARGEST_EDGE_ERROR = 0.05
"""Largest relative error at a window's two ends at which its joules count as the phase's own."""


def _empty_slots() -> list[float]:
    return [0.0] * NUM_SLOTS


@dataclass(kw_only=True)
class EnergyLedger:
    """Totals of one part of a run, or of several added up."""

    slot_s: list[float] = field(default_factory=_empty_slots)
    """Seconds of each phase, the unattributed last."""
    slot_j: list[float] = field(default_factory=_empty_slots)
    """Joules of each phase, the unattributed last; their sum is the total."""
    components_j: dict[str, float] = field(default_factory=dict)
    component_tier: dict[str, str] = field(default_factory=dict)
    lo_j: float = 0.0
    hi_j: float = 0.0
    lost_s: float = 0.0
    overhead_s: float = 0.0
    cpu_s: float = 0.0
    tier: str = ""
    """Worst tier so far; empty before anything was read."""
    is_apportioned: bool = False
    """True if any window's joules were split by time between phases."""
    boundary: str = ""
    is_shared: bool = False
    """True once others were seen to use the metered hardware."""

    def take_energy(self, channels: Sequence[Channel], now_ns: int) -> float:
        """Copy the present totals of the channels and return the joules since the last call."""
        # Channels hand over totals since the start, so the window's joules are a difference of totals.
        # `fsum` adds without rounding errors: components and phases must add up to the same total.
        before_j = fsum(self.components_j.values())
        self.components_j = {}
        self.lo_j = 0.0
        self.hi_j = 0.0
        self.lost_s = 0.0
        tiers: dict[str, list[Tier]] = {}
        for channel in channels:
            # Two sources may report one component, a plug-in and RAPL for instance; the worse tier counts.
            tier = channel.tier(now_ns)
            for name, joules in channel.components_j().items():
                self.components_j[name] = self.components_j.get(name, 0.0) + joules
                tiers.setdefault(name, []).append(tier)
            lo_j, hi_j = channel.bounds_j(now_ns)
            self.lo_j += lo_j
            self.hi_j += hi_j
            self.lost_s += channel.lost_s(now_ns)
        self.component_tier = {name: Tier.worst(found).value for name, found in tiers.items()}
        self.tier = Tier.worst(channel.tier(now_ns) for channel in channels).value
        self.is_shared = any(channel.is_shared for channel in channels)
        return fsum(self.components_j.values()) - before_j

    def add_window(self, shares: Sequence[float], step_j: float, *, window_s: float, period_s: float) -> None:
        """Distribute a window's seconds and joules among the phases.

        A phase owns its joules only if it had the window to itself and the window was long enough.
        Otherwise the split is apportioned.
        """
        for slot, share in enumerate(shares):
            self.slot_s[slot] += share * window_s
            self.slot_j[slot] += share * step_j
        # A counter that moves every tau errs by P * tau / sqrt(6) between two reads (`quantisation_u_j`),
        # which must be at most 5 % of the window's energy P * t.
        is_long = window_s * _LARGEST_EDGE_ERROR >= period_s / sqrt(6.0)
        is_alone = max(shares) >= _WHOLE_SHARE
        if step_j > 0.0 and not (is_long and is_alone):
            self.is_apportioned = True

    def __add__(self, later: EnergyLedger) -> EnergyLedger:
        """Return the totals of both parts, with the less trustworthy tier."""
        # A part that never read anything has no tier and must not spoil that of the other.
        parts = [part for part in (self, later) if part.tier]
        names = self.components_j | later.components_j
        components_j = {
            name: self.components_j.get(name, 0.0) + later.components_j.get(name, 0.0) for name in names
        }
        tier = ""
        if parts:
            tier = Tier.worst(Tier(part.tier) for part in parts).value
        return EnergyLedger(
            slot_s=[first + second for first, second in zip(self.slot_s, later.slot_s, strict=True)],
            slot_j=[first + second for first, second in zip(self.slot_j, later.slot_j, strict=True)],
            components_j=components_j,
            component_tier=worst_by_name([part.component_tier for part in parts]),
            # Bound to bound: a sensor's gain error is the same in both parts.
            lo_j=self.lo_j + later.lo_j,
            hi_j=self.hi_j + later.hi_j,
            lost_s=self.lost_s + later.lost_s,
            overhead_s=self.overhead_s + later.overhead_s,
            cpu_s=self.cpu_s + later.cpu_s,
            tier=tier,
            is_apportioned=self.is_apportioned or later.is_apportioned,
            boundary=" then ".join(dict.fromkeys(part.boundary for part in parts)),
            is_shared=self.is_shared or later.is_shared,
        )

    def reading(self) -> MeterReading:
        """Return the totals as values to report."""
        wall_s = fsum(self.slot_s)
        total_j = fsum(self.slot_j)
        mean_power_w = nan
        if wall_s > 0.0:
            mean_power_w = total_j / wall_s
        # Splitting by time is one more assumption, so the phases are never better than the total.
        tier = Tier(self.tier or Tier.NONE)
        phase_tier = tier
        if self.is_apportioned:
            phase_tier = Tier.worst((tier, Tier.APPORTIONED))
        reading = MeterReading(
            wall_s=wall_s,
            phase_s=_by_phase(self.slot_s),
            phase_j=_by_phase(self.slot_j),
            unattributed_s=self.slot_s[-1],
            unattributed_j=self.slot_j[-1],
            total_j=total_j,
            total_j_lo=self.lo_j,
            total_j_hi=self.hi_j,
            components_j=dict(self.components_j),
            cpu_s=self.cpu_s,
            mean_power_w=mean_power_w,
            tier=tier.value,
            phase_tier=phase_tier.value,
            component_tier=dict(self.component_tier),
            boundary=self.boundary or "none",
            is_shared=self.is_shared,
            overhead_s=self.overhead_s,
            lost_s=min(self.lost_s, wall_s),  # sources that fail together lose the same time
        )
        if reading.is_metered:
            return reading
        # Joules that nobody counted are unknown; 0 J would be a claim.
        return replace(
            reading,
            phase_j=dict.fromkeys(PHASES, nan),
            unattributed_j=nan,
            total_j=nan,
            total_j_lo=nan,
            total_j_hi=nan,
            components_j={},
            mean_power_w=nan,
            phase_tier=Tier.NONE.value,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: copy(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> EnergyLedger:
        """Rebuild the totals from `to_dict`.

        Raises:
            ValueError: If fields are missing or unknown.
        """
        expected = {entry.name for entry in fields(cls)}
        if state.keys() | _ADDED != expected:
            raise ValueError(f"meter state has fields {sorted(state)}: expected {sorted(expected)}")
        return cls(**state)


def _by_phase(slots: Sequence[float]) -> dict[str, float]:
    """Name the slots of the phases; the unattributed rest has no name."""
    return dict(zip(PHASES, slots[:-1], strict=True))
