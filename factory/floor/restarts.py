"""CPU time that it costs to start an attempt, as this floor has seen it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from factory.floor.keys import Key

PRIOR_S = 6.0
"""CPU time of a restart before any was seen [s]; the compiled kernels are in their cache by then."""
RESTARTS = Key("restarts", dict[str, list[float]], {})
"""`RestartCosts.to_plain`: CPU times of starts [s], by task."""
_KEPT = 9
"""Newest starts of a task that count; an odd number, so that the median is one of them."""


class RestartCosts:
    """Newest starts of each task, from the first process of an attempt to its first iteration."""

    def __init__(self, plain: Mapping[str, Sequence[float]]) -> None:
        """Go on with the starts that an earlier process has seen, as `to_plain` gave them."""
        self._by_task = {task: list(seen) for task, seen in plain.items()}

    def to_plain(self) -> dict[str, list[float]]:
        """Return the starts as plain values."""
        return {task: list(seen) for task, seen in self._by_task.items()}

    def note(self, task: str, cpu_s: float) -> None:
        """Add a start of a task that took `cpu_s` of CPU time [s]."""
        seen = self._by_task.setdefault(task, [])
        seen.append(cpu_s)
        del seen[:-_KEPT]

    def cost_s(self, task: str) -> float:
        """Return the median start of a task [s]; that of all tasks, or `PRIOR_S`, if none was seen."""
        seen = self._by_task.get(task)
        if not seen:
            # Most of a start is Python and torch, which all tasks share.
            seen = [cpu_s for others in self._by_task.values() for cpu_s in others]
        if not seen:
            return PRIOR_S
        return statistics.median(seen)
