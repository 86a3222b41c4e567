"""Settings of the Hydra group `energy`."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.energy.sources.estimate import EstimateConfig

SOURCES: tuple[str, ...] = ("auto", "rapl", "nvml", "estimate", "replay", "null")
SYNC_POLICIES: tuple[str, ...] = ("boundary", "sampled", "none")


@dataclass(kw_only=True)
class SiteConfig:
    """Where the machine stands: assumptions for cost and carbon, never part of a joule figure."""

    pue: float = 1.2
    """Power usage effectiveness: facility energy over IT energy. An assumption; applied once, in the KPIs."""
    price_usd_per_kwh: float = 0.10
    """Price of electricity [USD/kWh]."""
    carbon_g_per_kwh: float = 475.0
    """Carbon intensity of the grid [gCO2e/kWh]; world average of 2019 (IEA)."""

    def __post_init__(self) -> None:
        """Check the figures."""
        if self.pue < 1.0:
            raise ValueError(f"energy.site.pue={self.pue}: must be >= 1")
        for key in ("price_usd_per_kwh", "carbon_g_per_kwh"):
            if getattr(self, key) < 0.0:
                raise ValueError(f"energy.site.{key}={getattr(self, key)}: must be >= 0")


@dataclass(kw_only=True)
class EnergyConfig:
    """How energy is metered."""

    source: str = "auto"
    """`auto` takes the best there is: RAPL, else the estimate; NVML for a CUDA device. `null` is nothing."""
    min_window_s: float = 0.1
    """Shortest time between two reads of the counters [s]; phases within it share its joules by time."""
    idle_s: float = 0.0
    """How long to sit still before the run for its idle power, subtracted in net figures [s]; 60 is good, 0 none."""
    sync: str = "sampled"
    """When the GPU is drained for phases to own their work: each `boundary`, in `sampled` windows, `none`."""
    rapl_root: str = "/sys/class/powercap"
    """The powercap tree; another path if a container mounts it elsewhere."""
    replay_path: str = ""
    """Recording for `source: replay`, .csv or .jsonl."""
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    """Coefficients of the estimate."""
    site: SiteConfig = field(default_factory=SiteConfig)
    """Assumptions for cost and carbon."""

    def __post_init__(self) -> None:
        """Check the figures."""
        if self.source not in SOURCES:
            raise ValueError(f"energy.source={self.source}: choose from {', '.join(SOURCES)}")
        if self.sync not in SYNC_POLICIES:
            raise ValueError(f"energy.sync={self.sync}: choose from {', '.join(SYNC_POLICIES)}")
        if not self.min_window_s > 0.0:
            raise ValueError(f"energy.min_window_s={self.min_window_s}: must be > 0")
        if not self.idle_s >= 0.0:
            raise ValueError(f"energy.idle_s={self.idle_s}: must be >= 0")
        if self.source == "replay" and not self.replay_path:
            raise ValueError("energy.replay_path='': name the recording when energy.source=replay")
