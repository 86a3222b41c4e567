"""Zeus and CodeCarbon around the same load: their results, and why they differ from the factory's.

Both are optional and imported here only. The reasons come from the sources of Zeus 0.16.0 and CodeCarbon
3.3.2.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from io import StringIO
from typing import Any, Protocol

from factory.energy.reading import MeterReading
from factory.energy.types import COMPONENTS, Tier

# CodeCarbon reports kWh.
_J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Energy of the load according to one tool."""

    tool: str
    seconds: float = 0.0
    components_j: Mapping[str, float] = field(default_factory=dict)
    """Joules of `cpu`, `gpu`, `dram`; a component that the tool does not measure is absent."""
    reasons: tuple[str, ...] = ()
    """Reasons for differences from the factory's result, or for a missing result."""

    def row(self) -> dict[str, Any]:
        """Return plain values, watts by component, None where the tool measures nothing."""
        # Watts, because the tools' windows differ a little in length. Unknown is None, never 0 W.
        watts: dict[str, float | None] = {f"{name}_w": None for name in COMPONENTS}
        if self.seconds:
            for name in COMPONENTS:
                if name in self.components_j:
                    watts[f"{name}_w"] = self.components_j[name] / self.seconds
        total_j = None
        if self.components_j:
            total_j = sum(self.components_j.values())
        return {
            "tool": self.tool,
            "seconds": self.seconds or None,
            **watts,
            "total_j": total_j,
            "reasons": list(self.reasons),
        }


class Monitor(Protocol):
    """A tool that measures from `start` to `stop`."""

    def start(self) -> None:
        """Begin the window."""

    def stop(self) -> Measurement:
        """End the window."""


def monitors() -> tuple[list[Monitor], list[Measurement]]:
    """Return the tools that work here, and a remark for each one that is missing or does not start."""
    opened: list[Monitor] = []
    absent: list[Measurement] = []
    makers = [
        ("Zeus", "zeus", _Zeus, {}),
        *(("CodeCarbon", "codecarbon", _CodeCarbon, {"mode": m}) for m in _MODES),
    ]
    for tool, package, maker, options in makers:
        name = " ".join((tool, *options.values()))
        if find_spec(package) is None:
            # CodeCarbon has two modes, whose absence is one remark.
            if not any(measurement.tool == tool for measurement in absent):
                absent.append(Measurement(tool=tool, reasons=(f"not installed: pip install {package}",)))
            continue
        try:
            with quiet():
                opened.append(maker(**options))
        except Exception as error:  # an optional tool of others must not end the doctor
            absent.append(
                Measurement(tool=name, reasons=(f"does not start: {type(error).__name__}: {error}",))
            )
    return opened, absent


@contextmanager
def watching(watchers: Sequence[Monitor]) -> Iterator[list[Measurement]]:
    """Let the tools measure the block; the list fills at its end, in order."""
    measurements: list[Measurement] = []
    # Stopped in reverse order, so that each tool's window lies within that of the tool started before it.
    with quiet():
        for watcher in watchers:
            watcher.start()
    yield measurements
    with quiet():
        measurements += [watcher.stop() for watcher in reversed(watchers)][::-1]


def own_measurement(reading: MeterReading) -> Measurement:
    """Return the factory's own measurement of the load."""
    joules = dict(reading.components_j)
    tiers = ", ".join(f"{name} {tier}" for name, tier in reading.component_tier.items())
    interval = f"[{reading.total_j_lo:.4g}, {reading.total_j_hi:.4g}] J"
    reasons = ["nothing was metered"]
    if joules:
        reasons = [f"{tiers}; boundary {reading.boundary}; interval {interval}"]
    if reading.component_tier.get("dram") == Tier.ESTIMATED:
        reasons.append(
            "memory by its size in GB: the control group's limit or, without one, what this process holds"
        )
    if reading.component_tier.get("cpu") == Tier.ESTIMATED:
        reasons.append(
            "CPU by the control group's CPU time, other processes in it included, over the cores allocated"
        )
    return Measurement(tool="factory", seconds=reading.wall_s, components_j=joules, reasons=tuple(reasons))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the output of these tools off standard output, which may be JSON, and hide their warnings."""
    # Both tools configure loggers of their own on import, so all of logging is off meanwhile.
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class _Zeus:
    """Zeus' monitor over all GPUs and CPU packages it finds."""

    def __init__(self) -> None:
        from zeus.monitor import ZeusMonitor

        self._monitor = ZeusMonitor()

    def start(self) -> None:
        self._monitor.begin_window("doctor")

    def stop(self) -> Measurement:
        # Zeus keeps joules for each device index and None for kinds of devices that it did not find.
        found = self._monitor.end_window("doctor")
        parts = {"cpu": found.cpu_energy, "gpu": found.gpu_energy, "dram": found.dram_energy}
        joules = {name: float(sum(part.values())) for name, part in parts.items() if part}
        reasons = [f"its own total_energy is {found.total_energy:.4g} J: it sums GPUs only"]
        if "cpu" in joules:
            reasons.append(
                "every top-level RAPL zone counts as a CPU, even psys, which contains the packages again"
            )
        else:
            reasons.append("it reads no CPU counter here and has no model: no value, and no error either")
        if "gpu" in joules:
            reasons.append("GPUs by the same NVML counter as ours, but all visible ones, with no interval")
        # Neither tool separates the work of this process from that of others.
        if "cpu" in joules or "gpu" in joules:
            reasons.append(
                "counters enclose whole packages and boards, other work included, as the factory's counters "
                "do"
            )
        return Measurement(
            tool=f"Zeus {metadata.version('zeus')}",
            seconds=found.time,
            components_j=joules,
            reasons=tuple(reasons),
        )


_MODES = ("machine", "process")


class _CodeCarbon:
    """CodeCarbon's offline tracker in one of its two modes, every second, PUE 1, writing no file."""

    def __init__(self, *, mode: str) -> None:
        from codecarbon import OfflineEmissionsTracker

        self._mode = mode
        self._tracker = OfflineEmissionsTracker(
            country_iso_code="USA",
            measure_power_secs=1,
            tracking_mode=mode,
            save_to_file=False,
            allow_multiple_runs=True,
            pue=1.0,
            log_level="critical",
        )
        # The first task searches for the hardware, which takes seconds that belong to no load.
        self._tracker.start_task("setup")
        self._tracker.stop_task("setup")

    def start(self) -> None:
        self._tracker.start_task("load")

    def stop(self) -> Measurement:
        found = self._tracker.stop_task("load")
        self._tracker.stop()
        joules = {"cpu": found.cpu_energy * _J_PER_KWH, "dram": found.ram_energy * _J_PER_KWH}
        if found.gpu_count:
            joules["gpu"] = found.gpu_energy * _J_PER_KWH
        return Measurement(
            tool=f"CodeCarbon {metadata.version('codecarbon')}, {self._mode} mode",
            seconds=found.duration,
            components_j=joules,
            reasons=self._reasons(found),
        )

    def _reasons(self, found: Any) -> tuple[str, ...]:
        ram_gb = found.ram_total_size
        ram_w = found.ram_power
        # CodeCarbon does not report how it got the CPU's power; the type of its hardware object shows it.
        if "rapl" in repr(getattr(self._tracker, "_hardware", "")).lower():
            cpu = (
                "CPU from RAPL packages of the whole machine; memory zones nested in them are left out, "
                "even on request"
            )
        elif self._mode == "machine":
            cpu = (
                "CPU modelled as TDP x (0.1 + 0.9 u^3), u the load of all the machine's processors, others' "
                "work too"
            )
        else:
            cpu = (
                "CPU modelled as TDP x this process' share of CPU time: linear, and an idle core draws "
                "nothing"
            )
        # The last three hold in both modes.
        tdp = "TDP is looked up by the model's name, times sockets; a name it does not know gets 4 W a thread"
        ram = (
            f"memory at {ram_w:.3g} W for {ram_gb:.3g} GB: 5 W for each module it guesses from the "
            "machine's size"
        )
        if found.gpu_count:
            scope = "GPUs as whole boards, in process mode too"
        else:
            scope = "no GPU found"
        return (
            cpu,
            tdp,
            ram,
            scope,
            "its pue setting multiplies its joules: it was set to 1 here, as ours are IT joules",
        )


def explain(measurements: Sequence[Measurement]) -> list[str]:
    """Return each tool's reasons below its name; a reason given for an earlier tool is not repeated."""
    lines: list[str] = []
    for measurement in measurements:
        fresh = [line for reason in measurement.reasons if (line := f"- {reason}") not in lines]
        if fresh:
            lines += [f"{measurement.tool}:", *fresh]
    return lines


def compare(measurements: Sequence[Measurement]) -> list[str]:
    """Return one sentence for each tool and component with its ratio to the first tool."""
    # Only components that both measure: a ratio to nothing means nothing.
    own, *others = (measurement.row() for measurement in measurements)
    pairs = [(other, name, own[f"{name}_w"], other[f"{name}_w"]) for other in others for name in COMPONENTS]
    return [
        f"{other['tool']}: {name} {theirs_w:.3g} W, {theirs_w / own_w:.3g} times the {own_w:.3g} W of "
        f"{own['tool']}"
        for other, name, own_w, theirs_w in pairs
        if own_w and theirs_w is not None
    ]
