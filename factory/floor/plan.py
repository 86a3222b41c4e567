"""Input and output of the scheduler: the state of the floor at a moment, and what to do about it.

Times are monotonic seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from factory.floor.lines import LineState, Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Power and speed of a line while it runs, with what is known about their spread."""

    power_w: float
    """Predicted increase of the node's power, relative to the line being paused."""
    power_sd_w: float = 0.0
    tokens_per_s: float = 0.0
    is_prior: bool = True
    """True if nothing like this line was seen here yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """A line that is not final, as the scheduler sees it."""

    id: int
    state: LineState
    since_s: float
    """Time of the last change of state."""
    submitted_s: float
    """Time of submission; older lines gain priority."""
    needs: Needs
    point: OperatingPoint
    priority: int = 0
    flex: int = 1
    owner: str = ""
    not_before_s: float = 0.0
    """Earliest time of the next start."""
    deadline_s: float | None = None
    remaining_tokens: float = 0.0
    restart_s: float = 6.0
    """CPU time that a pre-emption and the resume after it cost [s]."""
    preempted_s: tuple[float, ...] = ()
    """Times of its pre-emptions, newest last."""
    is_held: bool = False
    """True if a user paused it: only a user resumes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorView:
    """The floor at a moment."""

    lines: tuple[LineView, ...]
    capacity: Needs
    """All that lines may occupy together."""
    power_w: float
    """Power of the node, by its upper bound where it is estimated."""
    idle_w: float
    """Power of the node without lines, by the same bound."""
    is_estimated: bool = True
    is_fresh: bool = True
    """False if the meter has failed; no line is started or shed on stale data."""
    is_draining: bool = False
    """True if nothing is started any more."""
    last_start_s: float = float("-inf")
    """Time of the last start or resume; starts are staggered."""


class Verb(StrEnum):
    """Action of the scheduler."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    PREEMPT = "preempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, with the change of power it is predicted to make."""

    verb: Verb
    line: int
    reason: str
    """Sentence for people, with the numbers that decided."""
    predicted_w: float
    """Predicted change of the node's power; negative when power is shed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Actions of a tick, in order, and the binding constraint of every line that waits."""

    actions: tuple[Action, ...] = ()
    waiting: dict[int, str] = field(default_factory=dict)
    """Sentence for each line that is queued or paused: the constraint that keeps it."""
