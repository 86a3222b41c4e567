"""Energy sources: the values that each would give a run here, or why it cannot, with a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from factory.diagnosis.finding import Finding, Status
from factory.diagnosis.machine import HostEnvironment, nvidia_gap
from factory.energy import registry
from factory.energy.config import EnergyConfig
from factory.energy.selection import select_sources
from factory.energy.sources.base import EnergySource, SourceUnavailable
from factory.energy.types import Boundary, Capability, Tier

_CALIBRATE = "calibrate the estimate against a wall meter (docs/doctor.md)"
_RELIABLE = (Tier.MEASURED, Tier.SAMPLED)
_PLAIN_NAMES = {"cpu": "CPU", "gpu": "GPU", "dram": "memory"}


def examine(cfg: EnergyConfig, host: HostEnvironment, *, device: str) -> list[Finding]:
    """Return a finding about a run with these settings, then one for every source.

    Args:
        cfg: Settings of the run.
        host: Surroundings, which decide the remedy.
        device: Device of the policy, `cpu` or `cuda`.
    """
    by_source: dict[str, Finding] = {}
    for name, source in registry.SOURCES.items():
        if source.reads_this_machine or name == cfg.source:
            by_source[name] = _examine_source(source, cfg, host, device=device)
    return [_verdict(cfg, device, by_source), *by_source.values()]


def _examine_source(
    source_class: type[EnergySource], cfg: EnergyConfig, host: HostEnvironment, *, device: str
) -> Finding:
    components = ", ".join(name.upper() for name in source_class.components)
    name = f"{source_class.title} ({components})"
    # Opening probes the hardware in the same way as a run does, so the doctor cannot disagree with it.
    source = source_class.from_config(cfg, device, os.environ)
    try:
        capability = source.open()
    except SourceUnavailable as gap:
        advise = _REMEDIES.get(source_class.name, _own_remedy)
        return _finding(name, Status.MISSING, gap.reason, remedy=advise(gap, cfg, host))
    finally:
        source.close()
    return _finding(
        name,
        _status(capability.tier),
        _describe(capability),
        remedy=_improvement(source_class.name, cfg),
        facts=_facts(capability),
    )


def _status(tier: Tier) -> Status:
    if tier in _RELIABLE:
        return Status.OK
    return Status.LIMITED


def _describe(capability: Capability) -> str:
    # Counters update in milliseconds, recordings in seconds.
    period = f"{capability.period_s:g} s"
    if capability.period_s < 1.0:
        period = f"{capability.period_s * 1e3:g} ms"
    components = " and ".join(capability.components)
    text = f"{capability.tier} joules of {components}, boundary {capability.boundary}, updated every {period}"
    if capability.tier in _RELIABLE:
        text += f": {', '.join(capability.keys)}"
    return "; ".join((text, *capability.details))


def _facts(capability: Capability) -> dict[str, Any]:
    return {
        "tier": capability.tier.value,
        "boundary": capability.boundary.value,
        "components": list(capability.components),
        "period_s": capability.period_s,
        "counters": list(capability.keys),
    }


def _verdict(cfg: EnergyConfig, device: str, by_source: dict[str, Finding]) -> Finding:
    """Return what a run here would meter with these settings, and why."""
    name = "a run here"
    try:
        selection = select_sources(cfg, device)
    except ValueError as error:
        text = f"no run can start with these settings: {error}"
        return _finding(name, Status.MISSING, text, remedy=by_source[cfg.source].remedy)
    if not selection.sources:
        text = f"no joules at all: {selection.explanation[0]}"
        return _finding(name, Status.MISSING, text, remedy="energy=auto")
    # The selection only kept the sources; opening them again shows their tiers.
    capabilities: list[Capability] = []
    for source in selection.sources:
        capabilities.append(source.open())
        source.close()
    words = [_summarise(capability) for capability in capabilities]
    names = [capability.source for capability in capabilities]
    # The estimate is only chosen for want of a counter, or on request: say which.
    if "estimate" in names:
        reason = f"energy.source={cfg.source}"
        if by_source["rapl"].status is Status.MISSING:
            reason = by_source["rapl"].text
        words += [f"no power counter of the CPU is read: {reason}", _explain_model(cfg)]
    # A wall plug covers the GPU without reporting it as a component.
    has_gpu = any(found.boundary is Boundary.NODE or "gpu" in found.components for found in capabilities)
    if device == "cuda" and not has_gpu:
        words.append("the energy of the GPU is in no metric")
    # A total is only as good as its worst part.
    worst = Tier.worst(capability.tier for capability in capabilities)
    facts = {"tier": worst.value, "sources": names, "device": device}
    return _finding(name, _status(worst), "; ".join(words), facts=facts)


def _summarise(capability: Capability) -> str:
    subject = " and ".join(_PLAIN_NAMES.get(name, name) for name in capability.components)
    return f"{subject} joules are {capability.tier} (source {capability.source})"


def _explain_model(cfg: EnergyConfig) -> str:
    """Return a sentence about the model that replaces a counter."""
    if cfg.estimate.calibration:
        return (
            "instead, the CPU time counted by the kernel is multiplied by powers per core that were fitted "
            f"to an outside meter ({cfg.estimate.calibration.origin}); so every energy value is labelled "
            "calibrated and carries the interval [lo, hi] of the fit"
        )
    return (
        "instead, the CPU time counted by the kernel and the size of memory are multiplied by powers per "
        "core and per GB that are published means of servers, not of this machine; so every energy value is "
        "labelled estimated and carries a wide interval [lo, hi]"
    )


def _improvement(name: str, cfg: EnergyConfig) -> str:
    """Return how to get better values from a source that works."""
    if name != "estimate" or cfg.estimate.calibration:
        return ""
    return (
        "to narrow it: energy.estimate.highest_w_per_core=<TDP / hardware threads of the host> (now "
        f"{cfg.estimate.highest_w_per_core:g} W), or {_CALIBRATE}"
    )


def _own_remedy(gap: SourceUnavailable, cfg: EnergyConfig, host: HostEnvironment) -> str:
    return gap.remedy


def _rapl_remedy(gap: SourceUnavailable, cfg: EnergyConfig, host: HostEnvironment) -> str:
    """Return the one remedy that can help on this host; a mount is useless where the host has no counter."""
    # From the nearest obstacle to the farthest: permission, system, hypervisor, container, path, driver.
    if "cannot be read" in gap.reason:
        where = ""
        if host.container:
            where = "on the host, "
        return f"{where}{gap.remedy}; docs/doctor.md has the udev rule that does this at every boot"
    if host.system != "Linux":
        return f"RAPL is read through Linux; here {_CALIBRATE}"
    if host.is_virtual:
        return (
            "nothing inside this machine helps: hypervisors do not pass these counters on, so a mount or a "
            f"permission has nothing to show. Run on the physical machine, or {_CALIBRATE}"
        )
    if host.container:
        # Zones in /sys/class/powercap are links into this folder, which container engines hide.
        return (
            "add to docker run: -v /sys/devices/virtual/powercap:/rapl:ro and to the command: "
            "energy.rapl_root=/rapl; if it then cannot be read, run as root or, on the host, sudo chmod a+r "
            "/sys/class/powercap/intel-rapl:*/energy_uj"
        )
    if cfg.rapl_root != EnergyConfig.rapl_root:
        return (
            f"energy.rapl_root={cfg.rapl_root} is not such a tree: leave the key out to read "
            f"{EnergyConfig.rapl_root}"
        )
    return (
        "run 'sudo modprobe intel_rapl_msr' (Intel, and AMD Zen from Linux 5.8 on); other processors have "
        "no RAPL"
    )


def _nvml_remedy(gap: SourceUnavailable, cfg: EnergyConfig, host: HostEnvironment) -> str:
    # The package alone does not help without a GPU and its driver, so both steps are named.
    _, remedy = nvidia_gap(host)
    if "nvidia-ml-py" in gap.reason:
        package = "pip install nvidia-ml-py (part of extra gpu; not the package pynvml)"
        return "; then ".join(step for step in (remedy, package) if step)
    return remedy or gap.remedy


_REMEDIES: dict[str, Callable[[SourceUnavailable, EnergyConfig, HostEnvironment], str]] = {
    "rapl": _rapl_remedy,
    "nvml": _nvml_remedy,
}
"""Remedies that depend on the host; other sources bring their own."""


def _finding(
    name: str, status: Status, text: str, *, remedy: str = "", facts: dict[str, Any] | None = None
) -> Finding:
    return Finding(section="measure", name=name, status=status, text=text, remedy=remedy, facts=facts or {})
