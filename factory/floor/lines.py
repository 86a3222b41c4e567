"""Lines, attempts and their states: the words that all parts of the floor share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from factory.runtime.decoding import LARGEST_INT, Count, Moment, Within


class LineState(StrEnum):
    """Position of a line on its way through the floor."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    PREEMPTING = "preempting"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_active(self) -> bool:
        """True if a process of the line may be alive."""
        return self in ACTIVE

    @property
    def is_final(self) -> bool:
        """True if nothing follows."""
        return self in FINAL


ACTIVE = frozenset({LineState.STARTING, LineState.RUNNING, LineState.PAUSED, LineState.PREEMPTING})
FINAL = frozenset({LineState.FINISHED, LineState.FAILED, LineState.CANCELLED})

# An attempt may end at any moment, and then the line waits for the next one, or ends as well.
_AFTER_AN_ATTEMPT = frozenset({LineState.QUEUED, LineState.LOST, *FINAL})

TRANSITIONS: dict[LineState, frozenset[LineState]] = {
    LineState.QUEUED: frozenset({LineState.STARTING, LineState.CANCELLED, LineState.FAILED}),
    LineState.STARTING: frozenset({LineState.RUNNING, LineState.PREEMPTING}) | _AFTER_AN_ATTEMPT,
    LineState.RUNNING: frozenset({LineState.PAUSED, LineState.PREEMPTING}) | _AFTER_AN_ATTEMPT,
    LineState.PAUSED: frozenset({LineState.RUNNING, LineState.PREEMPTING}) | _AFTER_AN_ATTEMPT,
    LineState.PREEMPTING: _AFTER_AN_ATTEMPT,
    LineState.LOST: frozenset({LineState.QUEUED, LineState.FAILED, LineState.CANCELLED, LineState.FINISHED}),
    # A trial of a sweep that reached its rung goes on when it is promoted.
    LineState.FINISHED: frozenset({LineState.QUEUED}),
    LineState.FAILED: frozenset(),
    LineState.CANCELLED: frozenset(),
}
"""States that may follow each state."""


class ExitClass(StrEnum):
    """Reason for the end of an attempt."""

    OK = "ok"
    USER_ERROR = "user_error"
    CRASH = "crash"
    OOM = "oom"
    KILLED = "killed"
    PREEMPTED = "preempted"
    STALLED = "stalled"
    DIVERGED = "diverged"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Resources that a line occupies while it runs or is paused."""

    cores: Annotated[float, Within(0.0, 1e6)]
    """CPUs."""
    memory_bytes: Count
    gpus: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One submitted training job. Times are seconds since 1970, UTC."""

    id: Count
    name: str
    task: str
    overrides: tuple[str, ...]
    """Arguments of `factory.train`, without those the floor adds."""
    spec_hash: str
    """Hash of the resolved configuration and the commit; equal lines are submitted once."""
    total_steps: Annotated[int, Within(1, LARGEST_INT)]
    """Environment steps at which the line ends."""
    needs: Needs
    priority: int = 0
    """Greater numbers first."""
    flex: Annotated[int, Within(0, 3)] = 1
    """Slowdown the line tolerates: 0 none, 1 little, 2 much, 3 any."""
    deadline: Moment | None = None
    owner: str = ""
    cwd: str = ""
    """Folder in which it was submitted."""
    created_at: Moment = 0.0
    state: LineState = LineState.QUEUED
    state_since: Moment = 0.0
    """Time of the last change of state."""
    reason: str = ""
    """Sentence that explains the state."""
    is_held: bool = False
    """True if a user paused it, so that only a user resumes it."""
    not_before: Moment = 0.0
    """Earliest time of the next attempt, after a failed one."""
    run_dir: str = ""
    exit_class: ExitClass | None = None
    """Class of the last attempt that ended."""
    attempts: Count = 0
    failures: Count = 0
    """Failed attempts in a row that made no progress, by the same root cause."""
    root_cause: str = ""
    """Root cause of the last failed attempt."""
    steps: Count = 0
    """Environment steps done."""
    tokens: Count = 0
    tokens_per_s: float = 0.0
    """Control tokens a second over the last iterations."""
    joules: float = 0.0
    waste_j: float = 0.0
    """Part of `joules` that went into work that was lost."""
    power_w: float = 0.0
    """Power attributed to the line at the moment."""

    @property
    def progress(self) -> float:
        """Share of the environment steps that is done, from 0 to 1."""
        return min(1.0, self.steps / max(1, self.total_steps))

    @property
    def remaining_tokens(self) -> float:
        """Control tokens until the line ends, at the tokens of an environment step so far; 1 before any."""
        # Worlds that are being reset execute no action, so there are fewer tokens than environment steps.
        per_step = 1.0
        if self.steps > 0 and self.tokens > 0:
            per_step = self.tokens / self.steps
        return per_step * max(0, self.total_steps - self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """Process of an attempt, identified so that a reused process id is no match."""

    engine: str
    host: str
    pid: Annotated[int, Within(1, 2**31 - 1)]
    started: float
    """Start time of the process, as `psutil.Process.create_time` gives it [s]."""
    boot_id: str
    devices: str = ""
    """GPUs that the attempt was given, as in `CUDA_VISIBLE_DEVICES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a line. Times are seconds since 1970, UTC."""

    line: Count
    number: Count
    folder: str
    """`lines/<line>/<number>` under the root of the floor."""
    handle: Handle | None
    """None until the process is known."""
    started_at: Moment
    steps_from: Count
    """Environment steps that were done before."""
    ended_at: Moment | None = None
    exit_class: ExitClass | None = None
    root_cause: str = ""
    steps_to: Count | None = None
    joules: float = 0.0
    cpu_s: float = 0.0
