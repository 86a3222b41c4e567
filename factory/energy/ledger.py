"""The meter's running totals; they add up across the parts of a resumed run and go through JSON."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from math import fsum, nan, sqrt
from typing import Any

from factory.energy.channel import Channel
from factory.energy.reading import MeterReading
from factory.energy.types import COMPONENTS, PHASES, Tier

_WHOLE = 0.999
_LARGEST_EDGE_ERROR = 0.05


@dataclass(kw_only=True)
class Ledger:
    """Totals of one part of a run, or of several added up."""

    slot_s: list[float] = field(default_factory=lambda: [0.0] * (len(PHASES) + 1))
    """Seconds of each phase, the unattributed last."""
    slot_j: list[float] = field(default_factory=lambda: [0.0] * (len(PHASES) + 1))
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
    """Whether any window's joules were split by time between phases."""
    boundary: str = ""

    def take_energy(self, channels: Sequence[Channel], now_ns: int) -> float:
        """Copy the present totals of the channels and return the joules since the last call."""
        before_j = fsum(self.components_j.values())
        components_j: dict[str, float] = {}
        tiers: dict[str, list[Tier]] = {}
        for channel in channels:
            for name, joules in channel.components_j().items():
                components_j[name] = components_j.get(name, 0.0) + joules
                tiers.setdefault(name, []).append(channel.tier(now_ns))
        bounds_j = [channel.bounds_j(now_ns) for channel in channels]
        self.components_j = components_j
        self.component_tier = {name: Tier.worst(of).value for name, of in tiers.items()}
        self.lo_j = sum(lo_j for lo_j, _ in bounds_j)
        self.hi_j = sum(hi_j for _, hi_j in bounds_j)
        self.lost_s = sum(channel.lost_s(now_ns) for channel in channels)
        self.tier = Tier.worst(channel.tier(now_ns) for channel in channels).value
        return fsum(components_j.values()) - before_j

    def add_window(self, shares: Sequence[float], step_j: float, *, window_s: float, period_s: float) -> None:
        """Share a window's seconds and joules.

        A phase owns its joules outright only if it had the window to itself and the window is so long that
        the counter's edges matter less than 5 % (P * tau / sqrt(6) against P * t); otherwise the split is
        apportioned.
        """
        for slot, share in enumerate(shares):
            self.slot_s[slot] += share * window_s
            self.slot_j[slot] += share * step_j
        is_long = window_s * _LARGEST_EDGE_ERROR >= period_s / sqrt(6.0)
        if step_j > 0.0 and not (is_long and max(shares) >= _WHOLE):
            self.is_apportioned = True

    def __add__(self, later: Ledger) -> Ledger:
        """Return the totals of both parts, at the trust of the worse."""
        names = {**self.components_j, **later.components_j}
        parts = [part for part in (self, later) if part.tier]
        return Ledger(
            slot_s=[a + b for a, b in zip(self.slot_s, later.slot_s, strict=True)],
            slot_j=[a + b for a, b in zip(self.slot_j, later.slot_j, strict=True)],
            components_j={k: self.components_j.get(k, 0.0) + later.components_j.get(k, 0.0) for k in names},
            component_tier={
                k: Tier.worst(Tier(p.component_tier[k]) for p in parts if k in p.component_tier).value
                for k in names
            },
            lo_j=self.lo_j + later.lo_j,
            hi_j=self.hi_j + later.hi_j,
            lost_s=self.lost_s + later.lost_s,
            overhead_s=self.overhead_s + later.overhead_s,
            cpu_s=self.cpu_s + later.cpu_s,
            tier=Tier.worst(Tier(part.tier) for part in parts).value if parts else "",
            is_apportioned=self.is_apportioned or later.is_apportioned,
            boundary=" then ".join(dict.fromkeys(part.boundary for part in parts)),
        )

    def reading(self) -> MeterReading:
        """Return the totals as figures to show."""
        tier = Tier(self.tier) if self.tier else Tier.NONE
        is_metered = tier is not Tier.NONE
        wall_s, total_j = fsum(self.slot_s), fsum(self.slot_j)
        split = (tier, Tier.APPORTIONED) if self.is_apportioned else (tier,)
        shown_j = self.slot_j if is_metered else [nan] * len(self.slot_j)
        component_j = {k: self.components_j.get(k, 0.0) if is_metered else nan for k in COMPONENTS}
        return MeterReading(
            wall_s=wall_s,
            phase_s=dict(zip(PHASES, self.slot_s, strict=False)),
            phase_j=dict(zip(PHASES, shown_j, strict=False)),
            unattributed_s=self.slot_s[-1],
            unattributed_j=shown_j[-1],
            total_j=total_j if is_metered else nan,
            total_j_lo=self.lo_j if is_metered else nan,
            total_j_hi=self.hi_j if is_metered else nan,
            cpu_j=component_j["cpu"],
            gpu_j=component_j["gpu"],
            dram_j=component_j["dram"],
            cpu_s=self.cpu_s,
            mean_power_w=total_j / wall_s if is_metered and wall_s > 0.0 else nan,
            tier=tier.value,
            phase_tier=Tier.worst(split).value if is_metered else Tier.NONE.value,
            component_tier=dict(self.component_tier),
            boundary=self.boundary or "none",
            overhead_s=self.overhead_s,
            lost_s=min(self.lost_s, wall_s),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: copy(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Ledger:
        """Rebuild the totals from `to_dict`.

        Raises:
            ValueError: If fields are missing or unknown.
        """
        expected = {entry.name for entry in fields(cls)}
        if state.keys() != expected:
            raise ValueError(f"meter state has fields {sorted(state)}: expected {sorted(expected)}")
        return cls(**state)
