"""Choice of the sources for a run, and in plain words why something is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory.energy.config import EnergyConfig
from factory.energy.sources.base import EnergySource, SourceUnavailable
from factory.energy.sources.estimate import EstimateSource
from factory.energy.sources.nvml import NvmlSource
from factory.energy.sources.rapl import RaplSource
from factory.energy.sources.replay import ReplaySource


@dataclass(frozen=True, slots=True)
class Selection:
    """Sources that can be opened here, and the reasons behind the choice."""

    sources: tuple[EnergySource, ...]
    explanation: tuple[str, ...]


def select_sources(cfg: EnergyConfig, device: str, *, environ: Mapping[str, str] | None = None) -> Selection:
    """Pick the sources of one host.

    Args:
        cfg: Settings.
        device: Where the policy runs: `cpu`, `cuda` or `cuda:<index>`.
        environ: Holds LOCAL_RANK, LOCAL_WORLD_SIZE, CUDA_VISIBLE_DEVICES; the process's environment if None.

    Raises:
        ValueError: If a source is asked for by name and cannot be used.
    """
    environ = os.environ if environ is None else environ
    if cfg.source == "null":
        return Selection((), ("energy.source=null: nothing is metered",))
    if environ.get("LOCAL_RANK", "0") != "0":
        return Selection((), ("rank 0 of this host meters it for all: counting here would count twice",))
    if cfg.source != "auto":
        return _named(cfg, device, environ)
    chosen: list[EnergySource] = []
    explanation: list[str] = []
    rapl = RaplSource(Path(cfg.rapl_root))
    if not _try(rapl, "cpu", chosen, explanation):
        explanation.append("cpu: so CPU and memory energy are estimated from CPU time, with wide bounds")
        _try(EstimateSource(cfg.estimate), "cpu", chosen, explanation)
    if device.startswith("cuda") and not _try(_nvml(device, environ), "gpu", chosen, explanation):
        explanation.append("gpu: so GPU energy is NOT in any figure of this run")
    return Selection(tuple(chosen), tuple(explanation))


def _named(cfg: EnergyConfig, device: str, environ: Mapping[str, str]) -> Selection:
    source: EnergySource
    if cfg.source == "rapl":
        source = RaplSource(Path(cfg.rapl_root))
    elif cfg.source == "nvml":
        source = _nvml(device, environ)
    elif cfg.source == "replay":
        source = ReplaySource(Path(cfg.replay_path))
    else:
        source = EstimateSource(cfg.estimate)
    explanation: list[str] = []
    chosen: list[EnergySource] = []
    if not _try(source, cfg.source, chosen, explanation):
        raise ValueError(f"energy.source={cfg.source}: {explanation[0].partition(': ')[2]}")
    return Selection(tuple(chosen), tuple(explanation))


def _nvml(device: str, environ: Mapping[str, str]) -> NvmlSource:
    """Meter the board of this run, or those of all its ranks on this host."""
    world_size = int(environ.get("LOCAL_WORLD_SIZE", "1"))
    _, _, index = device.partition(":")
    if world_size > 1:
        indices = list(range(world_size))
    elif device.startswith("cuda"):
        indices = [int(index or 0)]
    else:
        return NvmlSource(environ=environ)
    return NvmlSource(environ=environ, indices=indices)


def _try(source: EnergySource, label: str, chosen: list[EnergySource], explanation: list[str]) -> bool:
    try:
        capability = source.open()
    except SourceUnavailable as missing:
        explanation.append(
            f"{label}: {source.name} is not available: {missing.reason}; to have it: {missing.remedy}"
        )
        return False
    explanation.append(f"{label}: {capability.tier} by {source.name}")
    explanation += [f"{label}: {detail}" for detail in capability.details]
    chosen.append(source)
    return True
