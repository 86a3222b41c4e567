"""Data types of the operator: faults, findings, candidates, decisions. Times are in monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Fault(StrEnum):
    """Class of a fault."""

    CRASH = "crash"
    HANG = "hang"
    CRAWL = "crawl"
    FAIL_SLOW = "fail_slow"
    CONTENTION = "contention"
    MEMORY = "memory"
    DIVERGENCE = "divergence"
    COLLAPSE = "collapse"
    STAGNATION = "stagnation"
    OVER_BUDGET = "over_budget"
    METER = "meter"
    DISK = "disk"
    LEDGER = "ledger"
    CRASH_LOOP = "crash_loop"
    FLOOR_DIED = "floor_died"
    BAD_CHECKPOINT = "bad_checkpoint"
    CLOCK = "clock"


class Severity(IntEnum):
    """Urgency of a finding; only warnings and above count as alarms."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2


class Verb(StrEnum):
    """Action of the operator."""

    ALERT = "alert"
    """Tell people; nothing is changed."""
    RETRY_NOW = "retry_now"
    """Start a line that waits after a failure without further delay."""
    CONTINUE = "continue"
    """Resume processes that another program has stopped."""
    RESTART = "restart"
    """Kill the attempt; the line resumes from its last checkpoint."""
    CHECKPOINT_RESTART = "checkpoint_restart"
    """Let the line write a checkpoint, end, and start again."""
    REBIND = "rebind"
    """Bind the processes to the CPUs that are used least."""
    HOLD = "hold"
    """Pause a line until the fault is gone."""
    RELEASE = "release"
    """End a pause that the operator began."""
    PRUNE = "prune"
    """Delete checkpoints of finished lines, except the last of each."""
    CANCEL = "cancel"
    """Let the line write a checkpoint and end for good."""


class Mode(StrEnum):
    """Freedom of the operator."""

    OFF = "off"
    OBSERVE = "observe"
    SUGGEST = "suggest"
    AUTO = "auto"


class Status(StrEnum):
    """Position of a decision on its way."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    ACTING = "acting"
    EFFECTIVE = "effective"
    """The floor shows the change; the fault may still be there."""
    DONE = "done"
    """The fault is gone."""
    FAILED = "failed"
    """The effect, or the cure, did not come; what could be undone was undone."""
    EXPIRED = "expired"
    """The fault went away, or the action became impossible, before anybody acted."""

    @property
    def is_open(self) -> bool:
        """True if something may still happen."""
        return self in OPEN


OPEN = frozenset({Status.PROPOSED, Status.APPROVED, Status.ACTING, Status.EFFECTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A number that speaks for a finding."""

    name: str
    value: float
    unit: str
    limit: float
    """Threshold that the value has passed."""
    age_s: float = 0.0
    """Age of the newest data in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault that a detector sees."""

    fault: Fault
    line: int | None
    severity: Severity
    evidence: tuple[Evidence, ...]
    """At least one number for each of the two conditions."""
    since_s: float = 0.0
    """Time at which it was first seen."""

    @property
    def id(self) -> str:
        """Return the identity of the fault, which is the same in every tick."""
        return f"{self.fault}:{self.line or 'floor'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An action that the state of the floor allows."""

    verb: Verb
    line: int | None
    predicted_w: float = 0.0
    """Expected change of the node's power [W]."""
    predicted_tokens_per_s: float = 0.0
    """Expected change of the floor's speed once it has taken effect."""
    cost_tokens: float = 0.0
    """Work that is lost for it."""

    @property
    def id(self) -> str:
        """Return the name by which deciders choose it."""
        return f"{self.verb}:{self.line or 'floor'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An action that was chosen for a finding, and its outcome."""

    id: int
    fault: Fault
    finding: str
    """Id of the finding."""
    candidate: Candidate
    by: str
    """Decider that chose it."""
    status: Status
    at: float
    """Time of the choice, in seconds since 1970, UTC."""
    since_s: float
    """Time of its present status."""
    before: dict[str, float] = field(default_factory=dict)
    """Numbers before the action, against which its effect is read."""
    undo: list[int] = field(default_factory=list)
    """State to put back, such as CPUs; empty if nothing can be."""
    instead_of: Candidate | None = None
    """Choice of the rule that it has replaced; None if it is the first choice."""
