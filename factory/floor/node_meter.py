"""The one meter of a host: its energy, split into dynamic and idle, and its CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from factory.energy.cgroup import Cgroup, allocated_cores
from factory.energy.channel import Channel
from factory.energy.claim import Scope
from factory.energy.config import EnergyConfig
from factory.energy.selection import select_sources
from factory.energy.sources.base import EnergySource
from factory.energy.types import Tier
from factory.floor.attempt_files import boot_id

_NODE = "node"
"""Name of the position of the node's own time and CPU time, among those of its sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReading:
    """Totals of a node since its floor was founded; none of them ever falls."""

    t_mono: float = 0.0
    """Monotonic time [s]."""
    dynamic_j: float = 0.0
    """Energy of CPUs and memory that follows their load [J]; all of it where the idle power is unknown."""
    gpu_j: float = 0.0
    """Energy of the GPUs [J]."""
    gpu_hi_j: float = 0.0
    """Upper bound of `gpu_j` [J]."""
    idle_j: float = 0.0
    """Energy of CPUs and memory that no work is needed for [J], as far as that is known."""
    lo_j: float = 0.0
    hi_j: float = 0.0
    """Bounds of the total [J]."""
    tier: str = Tier.NONE.value
    """Worst tier of anything inside the total."""
    cpu_s: float = 0.0
    """CPU time of everything that ran on the node [s]."""
    num_cores: float = 1.0
    """CPUs of the node."""
    boot_id: str = ""
    """Start of the system that the positions belong to."""
    positions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Counts of each source at the last read; a meter that continues them on the same boot misses nothing."""

    @property
    def joules_total(self) -> float:
        """Return the energy of the node [J]."""
        return self.dynamic_j + self.gpu_j + self.idle_j


class NodeMeter:
    """Meters a host with the sources that a run there would use; no joule of it belongs to a line yet."""

    def __init__(
        self,
        sources: Sequence[EnergySource],
        *,
        cpu_s: Callable[[], float],
        num_cores: float,
        idle_w: float = 0.0,
        since: NodeReading | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        explanation: Sequence[str] = (),
    ) -> None:
        """Set the zero of every source, or continue from an earlier meter.

        What was used while no meter was open is in the first reading if the system has not started anew, and
        in none otherwise.

        Args:
            sources: Energy sources of the host.
            cpu_s: Returns the CPU time of everything on the node [s].
            num_cores: CPUs of the node.
            idle_w: Idle power of the node without its GPUs [W], for sources that cannot tell it; 0 if it is
                unknown.
            since: Totals to continue from, those of an earlier meter of this node.
            clock_ns: Monotonic clock [ns].
            explanation: Reasons for these sources, shown to the user.
        """
        self.explanation = tuple(explanation)
        self._channels = [Channel(source) for source in sources]
        self._cpu_s = cpu_s
        self._num_cores = num_cores
        self._idle_w = idle_w
        self._since = since or NodeReading()
        self._clock_ns = clock_ns
        # Totals of this meter alone; `read` adds those it continues from.
        self._t_ns = clock_ns()
        self._cpu_base_s = cpu_s()
        self._cpu_now_s = self._cpu_base_s
        self._load_j = 0.0
        self._idle_j = 0.0
        for channel in self._channels:
            channel.start(self._t_ns)
        # Counters of the kernel start at zero with every boot; only within one can they be continued.
        if self._since.boot_id == boot_id():
            self._seek(self._since.positions)

    @classmethod
    def open(
        cls,
        cfg: EnergyConfig | None = None,
        *,
        device: str = "cpu",
        idle_w: float = 0.0,
        since: NodeReading | None = None,
    ) -> NodeMeter:
        """Open the best sources of this host.

        Args:
            cfg: Settings; the defaults if None.
            device: `cuda` to meter the GPUs too.
            idle_w: Idle power without GPUs [W], where it was measured.
            since: Totals to continue from: `Books.last` of a floor that is started again.

        Raises:
            ValueError: If `cfg.source` names a source that cannot be used here.
        """
        # The host's meter bills everything, whoever used it: who that was is said by the books.
        selection = select_sources(replace(cfg or EnergyConfig(), scope=Scope.NODE.value), device)
        cgroup = Cgroup()
        return cls(
            selection.sources,
            cpu_s=cgroup.usage_s,
            num_cores=allocated_cores(cgroup),
            idle_w=idle_w,
            since=since,
            explanation=selection.explanation,
        )

    def read(self) -> NodeReading:
        """Read every source now and return the totals; never raises."""
        now_ns = self._clock_ns()
        for channel in self._channels:
            channel.read(now_ns)
        # A count that cannot be read keeps its last value: totals never fall.
        with suppress(OSError, ValueError):
            self._cpu_now_s = max(self._cpu_now_s, self._cpu_s())

        components_j = [channel.components_j() for channel in self._channels]
        gpu_j = sum(joules.get("gpu", 0.0) for joules in components_j)
        load_j = sum(sum(joules.values()) for joules in components_j) - gpu_j
        self._add_idle(load_j, (now_ns - self._t_ns) * 1e-9)
        self._t_ns = now_ns

        bounds_j = [channel.bounds_j(now_ns) for channel in self._channels]
        gpu_hi_j = sum(
            hi_j for joules, (_, hi_j) in zip(components_j, bounds_j, strict=True) if joules.keys() == {"gpu"}
        )
        tiers = [channel.tier(now_ns) for channel in self._channels]
        # Totals of earlier meters of this floor, under the worse of both tiers.
        since = self._since
        if since.joules_total > 0.0:
            tiers.append(Tier(since.tier))
        return NodeReading(
            t_mono=now_ns * 1e-9,
            dynamic_j=since.dynamic_j + max(0.0, load_j - self._idle_j),
            gpu_j=since.gpu_j + gpu_j,
            gpu_hi_j=since.gpu_hi_j + gpu_hi_j,
            idle_j=since.idle_j + self._idle_j,
            lo_j=since.lo_j + sum(lo_j for lo_j, _ in bounds_j),
            hi_j=since.hi_j + sum(hi_j for _, hi_j in bounds_j),
            tier=Tier.worst(tiers).value,
            cpu_s=since.cpu_s + self._cpu_now_s - self._cpu_base_s,
            num_cores=self._num_cores,
            boot_id=boot_id(),
            positions=self._positions(),
        )

    def devices_j(self) -> dict[str, float]:
        """Return the energy of each GPU since this meter was opened, by its UUID [J]."""
        return {
            uuid: joules for channel in self._channels for uuid, joules in channel.source.devices_j().items()
        }

    def close(self) -> None:
        """Release the sources."""
        for channel in self._channels:
            channel.source.close()

    def _positions(self) -> dict[str, dict[str, float]]:
        """Return the counts of all sources, and of the CPU time."""
        positions = {channel.source.name: channel.source.position() for channel in self._channels}
        return {**positions, _NODE: {"cpu_s": self._cpu_now_s, "t_ns": float(self._t_ns)}}

    def _seek(self, positions: Mapping[str, Mapping[str, float]]) -> None:
        """Continue from the counts of an earlier meter of this boot."""
        for channel in self._channels:
            position = positions.get(channel.source.name)
            if position and channel.capability is not None:
                channel.source.seek(position)
        before = positions.get(_NODE)
        if before is not None and {"cpu_s", "t_ns"} <= before.keys():
            self._cpu_base_s = min(self._cpu_base_s, before["cpu_s"])
            self._t_ns = min(self._t_ns, int(before["t_ns"]))

    def _add_idle(self, load_j: float, elapsed_s: float) -> None:
        """Add the idle energy of the time since the last read."""
        told_j = sum(channel.idle_j() for channel in self._channels)
        if told_j > 0.0:
            self._idle_j = told_j
        else:
            # A counter tells no idle power: a known one counts, up to what the counter shows.
            self._idle_j += min(load_j - self._load_j, self._idle_w * elapsed_s)
        self._load_j = load_j
