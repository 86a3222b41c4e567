"""Resources that lines may still take, and the sentence that tells which of them a line lacks."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from factory.floor.headroom import Headroom
from factory.floor.lines import Needs
from factory.floor.plan import FloorView, LineView

_MOST_NAMES = 4
_NO_NEEDS = Needs(cores=0.0, memory_bytes=0)


class Room:
    """Free cores, memory, GPUs and watts of the floor, while a plan is made."""

    def __init__(self, view: FloorView, power: Headroom, quota_cores: Mapping[str, float]) -> None:
        """Count the resources that the lines of a floor occupy."""
        self._capacity = view.capacity
        self._nodes = view.nodes
        self._power = power
        self._quota_cores = quota_cores
        self._bound = "upper bound"
        if view.is_estimated:
            self._bound = "estimated, upper bound"
        self._cores = 0.0
        self._memory_bytes = 0
        self._gpus = 0
        self.free_w = power.free_w
        self._by_owner: dict[str, float] = {}
        self._holders: list[int] = []
        self._gpu_holders: list[int] = []
        for line in view.lines:
            if line.state.is_active:
                self._occupy(line)

    def take(self, line: LineView) -> None:
        """Occupy the resources of a line that starts or resumes."""
        if not line.state.is_active:
            self._occupy(line)
        self.free_w -= line.point.upper_w

    def deficit(self, line: LineView) -> tuple[float, float, float, float]:
        """Return the cores, memory, GPUs and watts that a queued line lacks; at most 0 if it has them."""
        needs = line.needs
        return (
            needs.cores - (self._capacity.cores - self._cores),
            needs.memory_bytes - (self._capacity.memory_bytes - self._memory_bytes),
            needs.gpus - (self._capacity.gpus - self._gpus),
            line.point.upper_w - self.free_w,
        )

    def obstacle(self, line: LineView) -> str:
        """Return the sentence for the resource that a line lacks; empty if it fits."""
        needs = line.needs
        if line.state.is_active:
            # A paused line still occupies all but its watts.
            needs = _NO_NEEDS
        capacity = self._capacity
        # Shares of cores are sums of decimal fractions, which rounding may lift above a whole number.
        if self._cores + needs.cores > capacity.cores + 1e-9:
            taken = f"{self._cores:g} of {capacity.cores:g} are taken by {_names(self._holders)}"
            return f"needs {_count(needs.cores, 'core')}; {taken}"
        if self._memory_bytes + needs.memory_bytes > capacity.memory_bytes:
            free = f"{_gigabytes(capacity.memory_bytes - self._memory_bytes)} of"
            free = f"{free} {_gigabytes(capacity.memory_bytes)} GB of memory are free"
            return f"needs {_gigabytes(needs.memory_bytes)} GB; {free}"
        if self._gpus + needs.gpus > capacity.gpus:
            taken = f"{self._gpus} of {capacity.gpus} are taken by {_names(self._gpu_holders)}"
            return f"needs {_count(needs.gpus, 'GPU')}; {taken}"
        quota = self._quota_cores.get(line.owner, inf)
        owned = self._by_owner.get(line.owner, 0.0)
        if needs.cores > 0.0 and owned + needs.cores > quota + 1e-9:
            return f"needs {_count(needs.cores, 'core')}; {line.owner} has {owned:g} of a quota of {quota:g}"
        # Power comes last: it is the one that changes by itself.
        if line.point.upper_w > self.free_w:
            free_w = max(0.0, self.free_w)
            free = f"{free_w:.1f} W of {self._power.limit_w:.1f} W are free"
            return f"needs {line.point.upper_w:.1f} W ({self._bound}); {free}"
        return ""

    def impossible(self, line: LineView) -> str:
        """Return the sentence for a need that even an empty floor cannot meet; empty if it can."""
        capacity = self._capacity
        needs = line.needs
        if needs.cores > capacity.cores:
            return f"needs {_count(needs.cores, 'core')}; the floor has {capacity.cores:g}"
        if needs.memory_bytes > capacity.memory_bytes:
            has = f"the floor has {_gigabytes(capacity.memory_bytes)} GB"
            return f"needs {_gigabytes(needs.memory_bytes)} GB of memory; {has}"
        if needs.gpus > capacity.gpus:
            return f"needs {_count(needs.gpus, 'GPU')}; the floor has {capacity.gpus}"
        if self._nodes and not any(_holds(node, needs) for node in self._nodes):
            nodes = "; ".join(_described(node) for node in self._nodes[:_MOST_NAMES])
            return f"needs {_described(needs)} on one node; nodes have {nodes}"
        if line.point.upper_w > self._power.most_w:
            most_w = max(0.0, self._power.most_w)
            most = f"the budget of {self._power.limit_w:.1f} W leaves {most_w:.1f} W for lines"
            return f"needs {line.point.upper_w:.1f} W ({self._bound}); {most}"
        return ""

    def _occupy(self, line: LineView) -> None:
        self._cores += line.needs.cores
        self._memory_bytes += line.needs.memory_bytes
        self._gpus += line.needs.gpus
        self._by_owner[line.owner] = self._by_owner.get(line.owner, 0.0) + line.needs.cores
        self._holders.append(line.id)
        if line.needs.gpus > 0:
            self._gpu_holders.append(line.id)


def _names(ids: list[int]) -> str:
    """Return ids as in `3, 4 and 5`."""
    names = [str(line) for line in ids[:_MOST_NAMES]]
    if len(ids) > _MOST_NAMES:
        names.append(f"{len(ids) - _MOST_NAMES} more")
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _holds(node: Needs, needs: Needs) -> bool:
    return (
        needs.cores <= node.cores + 1e-9
        and needs.memory_bytes <= node.memory_bytes
        and needs.gpus <= node.gpus
    )


def _described(needs: Needs) -> str:
    """Return resources as in `2 cores, 3.0 GB, 1 GPU`."""
    parts = [_count(needs.cores, "core"), f"{_gigabytes(needs.memory_bytes)} GB"]
    if needs.gpus:
        parts.append(_count(needs.gpus, "GPU"))
    return ", ".join(parts)


def _count(number: float, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:g} {noun}s"


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f}"
