"""The meter of one host: its energy, and the part of each attempt in its CPU time and its GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import fsum
from typing import Any

from factory.energy.config import EnergyConfig
from factory.energy.process_tree import ProcessTable, ProcessTree
from factory.floor import attempt_files, gpus
from factory.floor.lines import Handle
from factory.floor.node_meter import NodeMeter, NodeReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The newest attempt of a line on a host."""

    attempt: int
    handle: Handle | None
    """None until its process is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """A moment of a host; the mappings are by line."""

    node: NodeReading
    cpu_s: Mapping[int, float] = field(default_factory=dict)
    """CPU time of the newest attempt since it started [s]."""
    gpu_share: Mapping[int, float] = field(default_factory=dict)
    """Share of the energy of all GPUs since the reading before, from 0 to 1."""

    def to_plain(self) -> dict[str, Any]:
        """Return values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> HostReading:
        """Rebuild a reading from `to_plain`; JSON makes texts of the numbers of lines."""
        return cls(
            node=NodeReading(**plain["node"]),
            cpu_s={int(line): cpu_s for line, cpu_s in plain["cpu_s"].items()},
            gpu_share={int(line): share for line, share in plain["gpu_share"].items()},
        )


class HostMeter:
    """Reads the counters of the host it runs on, and follows the processes of attempts there."""

    def __init__(self, since: NodeReading | None, *, energy: EnergyConfig | None = None) -> None:
        """Open the sources of this host.

        Args:
            since: Totals to continue from; None for a host that no floor has metered yet.
            energy: Settings of the meter; the defaults if None.
        """
        boards = gpus.visible()
        self.most_gpu_w = max(boards.values(), default=0.0)
        """Greatest power limit of a GPU here [W]; 0 without one."""
        device = "cpu"
        if boards:
            device = "cuda"
        self._meter = NodeMeter.open(energy, device=device, since=since)
        self.explanation = self._meter.explanation
        self._table = ProcessTable()
        self._trees: dict[tuple[int, int], ProcessTree] = {}
        self._devices: dict[str, tuple[str, ...]] = {}
        self._before_j: dict[str, float] = {}

    def read(self, running: Mapping[int, Running]) -> HostReading:
        """Return the totals of the host, and what the attempts have used of them.

        Args:
            running: Attempts on this host, by line, including those that have just ended.
        """
        node = self._meter.read()
        cpu_s = {line: self._cpu_s(line, attempt) for line, attempt in running.items()}
        return HostReading(node=node, cpu_s=cpu_s, gpu_share=self._gpu_share(running))

    def close(self) -> None:
        """Let go of the counters."""
        self._meter.close()

    def _cpu_s(self, line: int, running: Running) -> float:
        key = (line, running.attempt)
        if key not in self._trees and running.handle is not None:
            # Trees of earlier attempts are of no more use.
            self._trees = {other: tree for other, tree in self._trees.items() if other[0] != line}
            try:
                self._trees[key] = ProcessTree(running.handle.pid, table=self._table)
            except ProcessLookupError:
                return 0.0
        tree = self._trees.get(key)
        if tree is None:
            return 0.0
        return tree.cpu_s()

    def _gpu_share(self, running: Mapping[int, Running]) -> dict[int, float]:
        """Return each line's share; a board's energy belongs to those it was given to, in equal parts."""
        now_j = self._meter.devices_j()
        steps_j = {uuid: joules - self._before_j.get(uuid, 0.0) for uuid, joules in now_j.items()}
        # Even if nothing runs: the energy of idle boards must not fall to the line that comes next.
        self._before_j = now_j
        total_j = fsum(steps_j.values())
        if total_j <= 0.0:
            return {}
        boards = {line: self._boards(attempt.handle) for line, attempt in running.items()}
        tenants = Counter(uuid for uuids in boards.values() for uuid in uuids)
        return {
            line: fsum(steps_j.get(uuid, 0.0) / tenants[uuid] for uuid in uuids) / total_j
            for line, uuids in boards.items()
        }

    def _boards(self, handle: Handle | None) -> tuple[str, ...]:
        """Return the UUIDs of the boards of an attempt."""
        if handle is None or not handle.devices:
            return ()
        if handle.devices not in self._devices:
            found = gpus.visible({attempt_files.CUDA_DEVICES: handle.devices})
            self._devices[handle.devices] = tuple(found)
        return self._devices[handle.devices]
