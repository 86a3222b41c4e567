"""An energy source: a power supply whose load is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from factory.energy.sources.base import EnergySource
from factory.energy.types import Boundary, Capability, Reading, Tier
from factory.validation import require

if TYPE_CHECKING:
    from factory.energy.config import EnergyConfig


@dataclass(kw_only=True)
class SupplyOptions:
    """Settings of the supply."""

    power_w: float = 20.0
    """Power of the load [W]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.power_w > 0, "energy.options.supply.power_w", self.power_w, "must be positive")


class Supply(EnergySource):
    """Counts a constant power, as a stand-in for an instrument on the bench."""

    name = "supply"
    title = "bench supply"
    components = ("supply",)
    options = SupplyOptions

    def __init__(self, power_w: float) -> None:
        """Remember the power."""
        self._power_w = power_w

    @classmethod
    def from_config(cls, cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Self:
        """Build it with the power in the settings."""
        return cls(cfg.options_of(cls).power_w)

    def open(self) -> Capability:
        """Start counting."""
        self._start_ns = time.perf_counter_ns()
        return Capability(
            source=self.name,
            tier=Tier.MEASURED,
            boundary=Boundary.NODE,
            components=self.components,
            period_s=0.0,
            poll_s=None,
            keys=("bench supply",),
        )

    def read(self) -> Reading:
        """Return the energy since `open`, known to a tenth."""
        t_ns = time.perf_counter_ns()
        energy_j = self._power_w * (t_ns - self._start_ns) * 1e-9
        components_j = {"supply": energy_j}
        return Reading(t_ns, self.name, Tier.MEASURED, components_j, 0.9 * energy_j, 1.1 * energy_j)
