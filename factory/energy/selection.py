"""Choice of the energy sources for a run, and explanations for the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.energy import registry
from factory.energy.config import EnergyConfig
from factory.energy.sources.base import EnergySource, SourceUnavailable


@dataclass(frozen=True, slots=True)
class Selection:
    """Sources that can be opened here, and the reasons behind the choice."""

    sources: tuple[EnergySource, ...]
    explanation: tuple[str, ...]


def select_sources(cfg: EnergyConfig, device: str, *, environ: Mapping[str, str] | None = None) -> Selection:
    """Pick the sources for one host.

    Args:
        cfg: Settings.
        device: Where the policy runs: `cpu`, `cuda` or `cuda:<index>`.
        environ: Holds LOCAL_RANK, LOCAL_WORLD_SIZE, CUDA_VISIBLE_DEVICES; the process's environment if None.

    Raises:
        ValueError: If a source is asked for by name and cannot be used.
    """
    if environ is None:
        environ = os.environ
    if cfg.source == "null":
        return Selection((), ("energy.source=null: nothing is metered",))
    if environ.get("LOCAL_RANK", "0") != "0":
        # Counters belong to the host: if every rank read them, each joule would count several times.
        return Selection((), ("rank 0 meters this host for all of its ranks",))
    attempt = _Attempt(cfg, device, environ)
    if cfg.source == "auto":
        # A CPU run leaves the GPU idle; its energy belongs to whoever uses it.
        for part, names in registry.AUTO.items():
            if part != "gpu" or device.startswith("cuda"):
                attempt.take_first(part, names)
    # Named explicitly: a silent fallback would report joules of another kind than those asked for.
    elif not attempt.open(cfg.source, label=cfg.source):
        reason = attempt.explanation[0].partition(": ")[2]
        raise ValueError(f"energy.source={cfg.source}: {reason}")
    return Selection(tuple(attempt.chosen), tuple(attempt.explanation))


@dataclass
class _Attempt:
    """Opens sources one by one and keeps what there is to say about each."""

    cfg: EnergyConfig
    device: str
    environ: Mapping[str, str]
    chosen: list[EnergySource] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)
    _unavailable: set[str] = field(default_factory=set)

    def take_first(self, part: str, names: tuple[str, ...]) -> None:
        """Take the first source of `names` that opens.

        One that already meters another part covers this one too.
        """
        for name in names:
            # What could not be opened for one part of the machine cannot be opened for another.
            if name in self._unavailable:
                continue
            if any(source.name == name for source in self.chosen):
                self.explanation.append(f"{part}: covered by {name}")
                return
            if self.open(name, label=part):
                return
        self.explanation.append(
            f"{part}: no source is available, so {part.upper()} energy is NOT in any metric"
        )

    def open(self, name: str, *, label: str) -> bool:
        """Open a source and explain the outcome; return True if it can be used."""
        # Only opening shows whether the hardware answers and its permissions suffice.
        source = registry.SOURCES[name].from_config(self.cfg, self.device, self.environ)
        try:
            capability = source.open()
        except SourceUnavailable as gap:
            self._unavailable.add(name)
            self.explanation.append(
                f"{label}: {name} is not available: {gap.reason}; to have it: {gap.remedy}"
            )
            return False
        self.explanation.append(f"{label}: {capability.tier} by {name}")
        self.explanation += [f"{label}: {detail}" for detail in capability.details]
        self.chosen.append(source)
        return True
