"""Observations of lines while they run: windows of some seconds, from which power curves are learned."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from factory.floor.curves import Curves, Observation, StoredCurve, Subject, configuration_hash, family_of
from factory.floor.lines import Line, LineState
from factory.floor.plan import OperatingPoint
from factory.runtime import provenance

WINDOW_S = 10.0
_WARMUP_S = 10.0
"""Time after the first iteration that is not learned from: caches fill and kernels are compiled."""
_OBSERVED = frozenset({LineState.RUNNING, LineState.PAUSED})
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(slots=True)
class _Window:
    """Sums since the start of a window."""

    attempt: int
    start_s: float
    last_s: float
    tokens: int
    running_s: float = 0.0
    joules: float = 0.0


class CurveWatch:
    """Collects windows of the lines of a floor, and knows their operating points."""

    def __init__(
        self,
        stored: Iterable[StoredCurve],
        *,
        prior_w_per_core: float,
        prior_w_per_gpu: float = 0.0,
        machine: str | None = None,
        version: str | None = None,
    ) -> None:
        """Continue with the curves of an earlier process.

        Args:
            stored: Curves as `Curves.to_plain` gave them to the store.
            prior_w_per_core: Power of a busy core above an idle one, by the bound of the budget [W].
            prior_w_per_gpu: Power limit of a GPU [W].
            machine: Name of the machine; that of this host if None.
            version: Commit and driver; those of this process if None.
        """
        self.curves = Curves(prior_w_per_core=prior_w_per_core, prior_w_per_gpu=prior_w_per_gpu)
        self.curves.load(stored)
        self._machine = machine or platform.node()
        self._version = version or _version()
        self._subjects: dict[int, Subject] = {}
        self._windows: dict[int, _Window] = {}
        self._tokens_a_step: dict[str, float] = {}
        """By task; its observations and actions have the same sizes in every line."""

    def point(self, line: Line) -> OperatingPoint:
        """Return the operating point of a line; its own speed counts if it has one."""
        point = self.curves.point(self._subject(line))
        if line.tokens_per_s > 0.0:
            return replace(point, tokens_per_s=line.tokens_per_s)
        return point

    def see(self, line: Line) -> None:
        """Remember how many control tokens a step of the line's task makes."""
        if line.steps > 0 and line.tokens > 0:
            self._tokens_a_step[line.task] = line.tokens / line.steps

    def remaining_tokens(self, line: Line) -> float:
        """Return the control tokens until a line ends; infinite if no line of its task has made any yet."""
        if line.steps > 0 and line.tokens > 0:
            return line.remaining_tokens
        return self._tokens_a_step.get(line.task, inf) * line.total_steps

    def tick(self, line: Line, *, now_s: float, power_w: float) -> bool:
        """Add a tick of a line, and return whether a window has become an observation.

        Args:
            line: The line, active or not.
            now_s: Monotonic time at the end of the tick [s].
            power_w: Power that the line added to the node's in the tick, by the bound of the budget [W].
        """
        self.see(line)
        if line.state not in _OBSERVED:
            self._windows.pop(line.id, None)
            return False
        window = self._windows.get(line.id)
        if window is None or window.attempt != line.attempts:
            # A new attempt, or the first tick: nothing counts until the warm-up is over.
            start_s = now_s + _WARMUP_S
            self._windows[line.id] = _Window(line.attempts, start_s, start_s, line.tokens)
            return False
        if now_s <= window.start_s:
            window.tokens = line.tokens
            window.last_s = now_s
            return False
        elapsed_s = now_s - window.last_s
        window.last_s = now_s
        # Pauses lengthen a window and lower its duty; `Observation` divides them out again.
        window.joules += power_w * elapsed_s
        if line.state is LineState.RUNNING:
            window.running_s += elapsed_s
        length_s = now_s - window.start_s
        if length_s < WINDOW_S:
            return False
        observation = Observation(
            duty=min(1.0, window.running_s / length_s),
            power_w=window.joules / length_s,
            tokens_per_s=(line.tokens - window.tokens) / length_s,
        )
        self.curves.observe(self._subject(line), observation)
        self._windows[line.id] = _Window(line.attempts, now_s, now_s, line.tokens)
        return True

    def _subject(self, line: Line) -> Subject:
        subject = self._subjects.get(line.id)
        if subject is None:
            subject = Subject(
                configuration=configuration_hash(line.task, line.overrides, cores=line.needs.cores),
                family=family_of(line.task),
                cores=line.needs.cores,
                gpus=line.needs.gpus,
                machine=self._machine,
                version=self._version,
            )
            self._subjects[line.id] = subject
        return subject


def _version() -> str:
    """Return the commit, and the driver of the GPU if there is one."""
    commit = provenance.git_tags()["git.commit"]
    if not _NVIDIA_DRIVER.is_file():
        return commit
    return f"{commit} {_NVIDIA_DRIVER.read_text(encoding='utf-8').splitlines()[0]}"
