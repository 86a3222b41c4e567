"""The floor as the operator sees it at a moment: numbers, enumerations and ages, and no text.

Names of lines and words from log files have no place here, so that none can reach a decider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum, inf

from factory.floor.lines import ExitClass, LineState
from factory.operator.pressure import Pressure

_CLEARLY = 0.2
"""Share of a CPU by which another one has to be idler to be worth a move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An iteration of a line."""

    seen_s: float
    """Monotonic time at which it was first seen."""
    steps: int
    iteration_s: float
    """Duration by the run's own clock, which leaves out pauses."""
    tokens_per_s: float
    return_mean: float | None = None
    """Mean return of the episodes that ended; None if none did."""
    approx_kl: float = 0.0
    num_bad: float = 0.0
    """Bad samples, skipped gradient steps and rollbacks since the start of the run."""
    has_reached_threshold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """The machine."""

    num_cores: float = 1.0
    cores_busy: float = 0.0
    """CPU seconds a second of everything on it."""
    cpus_busy: tuple[float, ...] = ()
    """Share of each CPU that is busy, on average over the last ticks."""
    load: float = 0.0
    """Processes that want a CPU, averaged over a minute."""
    memory_bytes: float = inf
    memory_free_bytes: float = inf
    memory_pressure: Pressure = field(default_factory=Pressure)
    """Time that processes waited for memory; none if the kernel does not report it."""
    disk_bytes: float = inf
    disk_free_bytes: float = inf
    clock_jump_s: float = 0.0
    """Change of wall clock minus monotonic clock since the last tick."""
    tick_s: float = 1.0
    """Time since the last tick."""
    prunable_bytes: float = 0.0
    """Size of checkpoints of finished lines that nobody needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointView:
    """The newest checkpoint of a line."""

    steps: int = 0
    age_s: float = inf
    is_whole: bool = True
    """False if a file is missing or has another size than its checksum file says."""
    missing_bytes: int = 0
    size_bytes: int = 0
    is_being_written: bool = False
    interval_s: float = inf
    """Time between the last two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """A line."""

    id: int
    group: str = ""
    """Hash of its settings without the seed; lines of a group are peers."""
    state: LineState
    state_age_s: float = 0.0
    is_held: bool = False
    total_steps: int = 1
    steps: int = 0
    attempts: int = 0
    exit_class: ExitClass | None = None
    failures: int = 0
    """Failed attempts in a row without progress, by the same cause."""
    retry_in_s: float = 0.0
    priority: int = 0
    flex: int = 1
    cores: float = 1.0
    power_w: float = 0.0
    """Power that it adds while it runs, predicted."""
    tokens_per_s: float = 0.0
    """Speed while it runs undisturbed, predicted."""
    rows: tuple[Row, ...] = ()
    """Newest iterations of this attempt, oldest first."""
    usual: tuple[float, ...] = ()
    """Durations of iterations spread evenly over this attempt [s]; its first ones are left out."""
    returns: tuple[float, ...] = ()
    """Mean returns of windows of iterations from the start of the run on, oldest first."""
    silence_s: float = 0.0
    """Time without a new row while it ran."""
    cores_busy: float | None = None
    """CPU seconds a second over the last ticks; None if unknown."""
    is_stopped: bool = False
    """True if its processes are stopped although the floor has not paused it."""
    cpus: tuple[int, ...] = ()
    """CPUs that its training is bound to."""
    memory: tuple[tuple[float, float], ...] = ()
    """Monotonic time [s] and resident memory [byte], oldest first."""
    checkpoint: CheckpointView = field(default_factory=CheckpointView)
    outbox: tuple[tuple[float, float], ...] = ()
    """Monotonic time [s] and size [byte] of what waits for the tracking server, oldest first."""

    def better_cpus(self, host: HostView) -> list[int]:
        """Return CPUs with clearly less work of others than its own have; empty if there are none."""
        number = max(1, round(self.cores))
        if not self.cpus or len(self.cpus) >= len(host.cpus_busy):
            return []
        # The line's own work moves with it, so only that of others counts.
        own = (self.cores_busy or 0.0) / len(self.cpus)
        others = {cpu: busy - own * (cpu in self.cpus) for cpu, busy in enumerate(host.cpus_busy)}
        chosen = sorted(others, key=lambda cpu: others[cpu])[:number]
        present = fsum(others[cpu] for cpu in self.cpus) / len(self.cpus)
        if fsum(others[cpu] for cpu in chosen) / number > present - _CLEARLY:
            return []
        return sorted(chosen)

    @property
    def is_running(self) -> bool:
        """True if it should make progress now."""
        return self.state is LineState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterView:
    """The node's meter and the budget."""

    limit_w: float = inf
    samples: tuple[tuple[float, float, float], ...] = ()
    """Monotonic time [s], power [W] by the bound of the budget, and limit [W], oldest first."""
    tier_rank: int = 0
    """Trust in the meter; less is better."""
    best_tier_rank: int = 0
    """Best rank since the floor was started."""
    sample_age_s: float = 0.0
    lines_error_j: float = 0.0
    """Energy of the node minus that of lines and rest; 0 by construction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The whole floor."""

    now_s: float
    """Monotonic time."""
    lines: tuple[LineView, ...] = ()
    host: HostView = field(default_factory=HostView)
    meter: MeterView = field(default_factory=MeterView)
    floor_gap_s: float = 0.0
    """Time for which nobody ran the floor before it was started, if its last process died; else 0."""
    floor_age_s: float = inf
    """Time since the floor was started."""
    num_duplicate_targets: int = 0
    """Budget targets that repeat an earlier one."""

    def line(self, number: int | None) -> LineView | None:
        """Return a line, None if it is not there."""
        return next((line for line in self.lines if line.id == number), None)

    def peers(self, line: LineView) -> list[LineView]:
        """Return the other lines of the same settings that run."""
        return [
            other
            for other in self.lines
            if other.group == line.group and other.id != line.id and other.is_running
        ]
