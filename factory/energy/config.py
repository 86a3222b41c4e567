"""Settings of the Hydra group `energy`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from factory.energy import registry
from factory.energy.claim import Scope
from factory.energy.sources.base import EnergySource
from factory.energy.sources.estimate import EstimateConfig
from factory.validation import require

SYNC_POLICIES: tuple[str, ...] = ("boundary", "sampled", "none")
_LONGEST_S = 3600.0
"""Longest window between reads, and longest measurement of idle power [s]."""


@dataclass(kw_only=True)
class SiteConfig:
    """Assumptions about the machine's location, for cost and carbon; they never change a joule."""

    pue: float = 1.2
    """Power usage effectiveness: facility energy over IT energy. An assumption; applied once, in `kpi`."""
    price_usd_per_kwh: float = 0.10
    """Price of electricity [USD/kWh]."""
    carbon_g_per_kwh: float = 475.0
    """Carbon intensity of the grid [gCO2e/kWh]; world average of 2019 (IEA)."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.pue >= 1.0, "energy.site.pue", self.pue, "must be >= 1")
        for key in ("price_usd_per_kwh", "carbon_g_per_kwh"):
            value = getattr(self, key)
            require(value >= 0.0, f"energy.site.{key}", value, "must be >= 0")


@dataclass(kw_only=True)
class EnergyConfig:
    """Settings of energy metering."""

    source: str = "auto"
    """`auto`: the best available (RAPL, else the estimate; NVML for a CUDA device); a source's name; `null`:
    none.
    """
    scope: str = "allocation"
    """CPU energy to bill, where others may compute on the same cores: `allocation`, this run's CPU time and,
    while it is alone, free cores; `process`, its CPU time and its cores' idle power, whatever others do;
    `node`, everybody's.
    """
    min_window_s: float = 0.1
    """Shortest time between two reads of the counters [s]; phases within it share its joules by time."""
    idle_s: float = 0.0
    """Time to measure idle power before the run, subtracted in net metrics [s]; 60 is good, 0 skips it."""
    sync: str = "sampled"
    """Synchronisation of the GPU, so that phases own their work: at every phase `boundary`, in `sampled`
    windows, or `none`.
    """
    rapl_root: str = "/sys/class/powercap"
    """The powercap tree; another path if a container mounts it elsewhere."""
    replay_path: str = ""
    """Recording for `source: replay`, .csv or .jsonl."""
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    """Coefficients of the estimate."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of sources from plug-ins: `energy.options.<source>.<key>`."""
    site: SiteConfig = field(default_factory=SiteConfig)
    """Assumptions for cost and carbon."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        names = registry.choices()
        require(self.source in names, "energy.source", self.source, f"choose from {', '.join(names)}")
        scopes = ", ".join(Scope)
        require(self.scope in tuple(Scope), "energy.scope", self.scope, f"choose from {scopes}")
        policies = ", ".join(SYNC_POLICIES)
        require(self.sync in SYNC_POLICIES, "energy.sync", self.sync, f"choose from {policies}")
        remedy = f"must be > 0 and at most {_LONGEST_S:g}"
        is_window = 0.0 < self.min_window_s <= _LONGEST_S
        require(is_window, "energy.min_window_s", self.min_window_s, remedy)
        is_idle = 0.0 <= self.idle_s <= _LONGEST_S
        require(is_idle, "energy.idle_s", self.idle_s, f"must be in [0, {_LONGEST_S:g}]")
        require(self.rapl_root != "", "energy.rapl_root", "", "name a folder")
        # A missing recording is a mistake only if the recording is what is asked for.
        has_recording = self.source != "replay" or bool(self.replay_path)
        require(has_recording, "energy.replay_path", "''", "name the recording when energy.source=replay")
        # Plug-in sources describe their own options, so a wrong key is found here, before the run starts.
        for name, values in self.options.items():
            key = f"energy.options.{name}"
            with_options = [known.name for known in registry.SOURCES.values() if known.options is not None]
            listed = ", ".join(with_options) or "no source has any"
            require(name in with_options, key, values, f"no such options; choose from: {listed}")
            self.options_of(registry.SOURCES[name])

    def options_of(self, source: type[EnergySource]) -> Any:
        """Return a source's own settings as the dataclass that it declares in `options`.

        Raises:
            ValueError: If a key is unknown or a value has the wrong type or range.
        """
        # Imported here: the configuration must load quickly for `--help`, and most runs have no such options.
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        given = self.options.get(source.name, {})
        try:
            return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(source.options), given))
        except OmegaConfBaseException as error:
            problem = str(error).partition("\n")[0]
            raise ValueError(f"energy.options.{source.name}={given}: {problem}") from error
