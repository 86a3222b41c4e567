"""Zeus and CodeCarbon around the same load: their figures, and why they differ from the factory's.

Both are optional and imported here only. The reasons were read in the sources of Zeus 0.16.0 and CodeCarbon
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

_J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Energy of the load according to one tool."""

    tool: str
    seconds: float = 0.0
    components_j: Mapping[str, float] = field(default_factory=dict)
    """Joules of `cpu`, `gpu`, `dram`; a component the tool does not know is absent."""
    reasons: tuple[str, ...] = ()
    """Why it may differ from the factory's figure, or why there is none."""

    def row(self) -> dict[str, Any]:
        """Return plain values, watts by component, None where the tool knows nothing."""
        watts = {
            f"{name}_w": self.components_j[name] / self.seconds
            if name in self.components_j and self.seconds
            else None
            for name in COMPONENTS
        }
        if self.components_j:
            total_j = sum(self.components_j.values())
        else:
            total_j = None
        return {
            "tool": self.tool,
            "seconds": self.seconds or None,
            **watts,
            "total_j": total_j,
            "reasons": list(self.reasons),
        }


class Monitor(Protocol):
    """A tool that watches from `start` to `stop`."""

    def start(self) -> None:
        """Begin the window."""

    def stop(self) -> Figure:
        """End the window."""


def monitors() -> tuple[list[Monitor], list[Figure]]:
    """Return the tools that are installed and work, and a remark for each one that is not or does not."""
    opened: list[Monitor] = []
    absent: list[Figure] = []
    makers = [
        ("Zeus", "zeus", _Zeus, {}),
        *(("CodeCarbon", "codecarbon", _CodeCarbon, {"mode": m}) for m in _MODES),
    ]
    for tool, package, maker, options in makers:
        name = " ".join((tool, *options.values()))
        if find_spec(package) is None:
            if not any(figure.tool == tool for figure in absent):
                absent.append(Figure(tool=tool, reasons=(f"not installed: pip install {package}",)))
            continue
        try:
            with quiet():
                opened.append(maker(**options))
        except Exception as error:  # an optional tool of others must not end the doctor
            absent.append(Figure(tool=name, reasons=(f"does not start: {type(error).__name__}: {error}",)))
    return opened, absent


@contextmanager
def watching(watchers: Sequence[Monitor]) -> Iterator[list[Figure]]:
    """Let the tools watch the block; the list fills at its end, in order."""
    figures: list[Figure] = []
    with quiet():
        for watcher in watchers:
            watcher.start()
    yield figures
    with quiet():
        figures += [watcher.stop() for watcher in reversed(watchers)][::-1]


def own_figure(reading: MeterReading) -> Figure:
    """Return the factory's own figure of the load."""
    joules = dict(reading.components_j)
    tiers = ", ".join(f"{name} {tier}" for name, tier in reading.component_tier.items())
    interval = f"[{reading.total_j_lo:.4g}, {reading.total_j_hi:.4g}] J"
    reasons = [
        f"{tiers}; boundary {reading.boundary}; interval {interval}" if joules else "nothing was metered"
    ]
    if reading.component_tier.get("dram") == Tier.ESTIMATED:
        reasons.append(
            "memory by GB: of the control group's limit or, where there is none, of what this process holds"
        )
    if reading.component_tier.get("cpu") == Tier.ESTIMATED:
        reasons.append(
            "CPU by the control group's CPU time, other processes in it included, over the cores allocated"
        )
    return Figure(tool="factory", seconds=reading.wall_s, components_j=joules, reasons=tuple(reasons))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the output of these tools off standard output, which may be JSON, and hide their warnings."""
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

    def stop(self) -> Figure:
        found = self._monitor.end_window("doctor")
        parts = {"cpu": found.cpu_energy, "gpu": found.gpu_energy, "dram": found.dram_energy}
        joules = {name: float(sum(part.values())) for name, part in parts.items() if part}
        reasons = [f"its own total_energy says {found.total_energy:.4g} J: it sums GPUs only"]
        if "cpu" in joules:
            reasons.append(
                "every RAPL zone of the top level counts as a CPU, psys too, which holds the packages again"
            )
        else:
            reasons.append("it reads no CPU counter here and has no model: no figure, and no error either")
        if "gpu" in joules:
            reasons.append("GPUs by the same NVML counter as ours, but all visible ones, with no interval")
        if "cpu" in joules or "gpu" in joules:
            reasons.append(
                "counters enclose whole packages and boards, other work included, as the factory's counters "
                "do"
            )
        return Figure(
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
        # The first task looks for the hardware, which takes seconds that belong to no load.
        self._tracker.start_task("setup")
        self._tracker.stop_task("setup")

    def start(self) -> None:
        self._tracker.start_task("load")

    def stop(self) -> Figure:
        found = self._tracker.stop_task("load")
        self._tracker.stop()
        joules = {"cpu": found.cpu_energy * _J_PER_KWH, "dram": found.ram_energy * _J_PER_KWH}
        if found.gpu_count:
            joules["gpu"] = found.gpu_energy * _J_PER_KWH
        return Figure(
            tool=f"CodeCarbon {metadata.version('codecarbon')}, {self._mode} mode",
            seconds=found.duration,
            components_j=joules,
            reasons=self._reasons(found),
        )

    def _reasons(self, found: Any) -> tuple[str, ...]:
        ram_gb = found.ram_total_size
        ram_w = found.ram_power
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


def explain(figures: Sequence[Figure]) -> list[str]:
    """Return each tool's reasons below its name; what was said of an earlier tool is not said again."""
    lines: list[str] = []
    for figure in figures:
        fresh = [line for reason in figure.reasons if (line := f"- {reason}") not in lines]
        lines += [f"{figure.tool}:", *fresh] if fresh else []
    return lines


def compare(figures: Sequence[Figure]) -> list[str]:
    """Return, in plain words, how far each tool is from the first, component by component."""
    own, *others = (figure.row() for figure in figures)
    pairs = [(other, name, own[f"{name}_w"], other[f"{name}_w"]) for other in others for name in COMPONENTS]
    return [
        f"{other['tool']}: {name} {theirs_w:.3g} W, {theirs_w / own_w:.3g} times the {own_w:.3g} W of "
        f"{own['tool']}"
        for other, name, own_w, theirs_w in pairs
        if own_w and theirs_w is not None
    ]
