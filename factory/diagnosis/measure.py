"""Every energy source: what it would give a run here, or why not and what would change that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory.diagnosis.finding import Finding, Status
from factory.diagnosis.machine import Place, nvidia_gap
from factory.energy.config import EnergyConfig
from factory.energy.selection import select_sources
from factory.energy.sources.base import EnergySource, SourceUnavailable
from factory.energy.sources.estimate import EstimateSource
from factory.energy.sources.nvml import NvmlSource
from factory.energy.sources.rapl import RaplSource
from factory.energy.types import Capability, Tier

_CALIBRATE = "or calibrate the estimate against a wall meter (docs/doctor.md)"
_SURE = (Tier.MEASURED, Tier.SAMPLED)
_SUBJECTS = {"rapl": "CPU joules", "nvml": "GPU joules", "estimate": "CPU and memory joules"}


def examine(cfg: EnergyConfig, place: Place, *, device: str, nvml: Any = None) -> list[Finding]:
    """Return every source and, first, what they come to for a run.

    Args:
        cfg: Settings of the run's gauges.
        place: Decides which remedy can help.
        device: Where the policy would run, `cpu` or `cuda`.
        nvml: A library like `pynvml`; the installed one if None.
    """
    rapl = _examine_source(
        RaplSource(Path(cfg.rapl_root)), "RAPL (CPU, DRAM)", lambda gap: _rapl_remedy(gap, cfg, place)
    )
    boards = _examine_source(NvmlSource(nvml), "NVML (GPU)", lambda gap: _nvml_remedy(gap, place))
    estimate = _examine_source(EstimateSource(cfg.estimate), "estimate (CPU, DRAM)", lambda gap: gap.remedy)
    return [_verdict(cfg, device, rapl), rapl, boards, _narrowed(estimate, cfg)]


def _examine_source(source: EnergySource, name: str, remedy: Callable[[SourceUnavailable], str]) -> Finding:
    try:
        capability = source.open()
    except SourceUnavailable as gap:
        return Finding(
            section="measure", name=name, status=Status.MISSING, text=gap.reason, remedy=remedy(gap)
        )
    finally:
        source.close()
    status = Status.OK if capability.tier in _SURE else Status.LIMITED
    return Finding(
        section="measure", name=name, status=status, text=_describe(capability), facts=_facts(capability)
    )


def _describe(capability: Capability) -> str:
    period = (
        f"{capability.period_s * 1e3:g} ms" if capability.period_s < 1.0 else f"{capability.period_s:g} s"
    )
    head = (
        f"{capability.tier} joules of {' and '.join(capability.components)}, boundary {capability.boundary}"
    )
    counters = ": " + ", ".join(capability.keys) if capability.tier in _SURE else ""
    details = "".join(f"; {detail}" for detail in capability.details)
    return f"{head}, new every {period}{counters}{details}"


def _facts(capability: Capability) -> dict[str, Any]:
    return {
        "tier": capability.tier.value,
        "boundary": capability.boundary.value,
        "components": list(capability.components),
        "period_s": capability.period_s,
        "counters": list(capability.keys),
    }


def _verdict(cfg: EnergyConfig, device: str, rapl: Finding) -> Finding:
    """Say what a run here would get with these settings, and why."""
    try:
        selection = select_sources(cfg, device)
    except ValueError as error:
        text = f"no run can start with these settings: {error}"
        return Finding(
            section="measure", name="a run here", status=Status.MISSING, text=text, remedy=rapl.remedy
        )
    if not selection.sources:
        text = f"no joules at all: {selection.explanation[0]}"
        return Finding(
            section="measure", name="a run here", status=Status.MISSING, text=text, remedy="energy=auto"
        )
    tiers = {source.name: source.open().tier for source in selection.sources}
    for source in selection.sources:
        source.close()
    words = [f"{_SUBJECTS.get(name, 'joules')} are {tier} (source {name})" for name, tier in tiers.items()]
    if "estimate" in tiers:
        why = rapl.text if rapl.status is Status.MISSING else f"energy.source={cfg.source}"
        words += [f"no power counter of the CPU is read: {why}", _model(cfg)]
    if device == "cuda" and "nvml" not in tiers:
        words.append("the energy of the GPU is in no figure")
    worst = Tier.worst(tiers.values())
    status = Status.OK if worst in _SURE else Status.LIMITED
    facts = {"tier": worst.value, "sources": list(tiers), "device": device}
    return Finding(section="measure", name="a run here", status=status, text="; ".join(words), facts=facts)


def _model(cfg: EnergyConfig) -> str:
    """Say what stands in for a counter."""
    if cfg.estimate.calibration:
        return (
            "instead, CPU time, which the kernel counts, is multiplied by powers per core fitted to an outside meter "
            f"({cfg.estimate.calibration.origin}); so every figure of energy carries the word calibrated and the fit's "
            "interval [lo, hi]"
        )
    return (
        "instead, CPU time, which the kernel counts, and the size of memory are multiplied by powers per core and "
        "per GB that are published means of servers, not of this machine; so every figure of energy carries the "
        "word estimated and a wide interval [lo, hi]"
    )


def _narrowed(estimate: Finding, cfg: EnergyConfig) -> Finding:
    """Add what makes the estimate better."""
    if cfg.estimate.calibration:
        return estimate
    remedy = (
        f"to narrow it: energy.estimate.highest_w_per_core=<TDP / hardware threads of the host> (now "
        f"{cfg.estimate.highest_w_per_core:g} W), {_CALIBRATE}"
    )
    return dataclasses.replace(estimate, remedy=remedy)


def _rapl_remedy(gap: SourceUnavailable, cfg: EnergyConfig, place: Place) -> str:
    """Return the one remedy that can help in this place; a mount is of no use where the host has no counter."""
    if "cannot be read" in gap.reason:
        on_host = "on the host, " if place.container else ""
        return f"{on_host}{gap.remedy}; docs/doctor.md has the udev rule that does so by itself"
    if place.system != "Linux":
        return f"RAPL is read through Linux; {_CALIBRATE}".replace("; or", "; here")
    if place.is_virtual:
        return (
            "nothing inside helps: hypervisors do not pass these counters on, so a mount or a permission has nothing "
            f"to show. Run on the physical machine, {_CALIBRATE}"
        )
    if place.container:
        # Its parts of /sys/class/powercap are links into this folder, which container engines hide.
        return (
            "add to docker run: -v /sys/devices/virtual/powercap:/rapl:ro and to the command: energy.rapl_root=/rapl; "
            "if it then cannot be read, run as root or, on the host, sudo chmod a+r "
            "/sys/class/powercap/intel-rapl:*/energy_uj"
        )
    if cfg.rapl_root != EnergyConfig.rapl_root:
        return f"energy.rapl_root={cfg.rapl_root} is not such a tree: leave the key out to read {EnergyConfig.rapl_root}"
    return "run 'sudo modprobe intel_rapl_msr' (Intel, and AMD Zen from Linux 5.8 on); other processors have no RAPL"


def _nvml_remedy(gap: SourceUnavailable, place: Place) -> str:
    _, remedy = nvidia_gap(place)
    if "nvidia-ml-py" in gap.reason:
        package = "pip install nvidia-ml-py (part of extra gpu; not the package pynvml)"
        return f"{remedy}; then {package}" if remedy else package
    return remedy or gap.remedy
