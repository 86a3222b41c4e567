"""Input and output of the scheduler: the state of the floor at a moment, and what to do about it.

Times are monotonic seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum, inf

from factory.energy.uncertainty import COVERAGE_FACTOR
from factory.floor.lines import ExitClass, LineState, Needs
from factory.floor.restarts import PRIOR_S
from factory.validation import require


@dataclass(frozen=True, slots=True)
class PowerSample:
    """Power and budget of the node over a tick, and the tokens since the floor started."""

    t_s: float
    """End of the tick."""
    power_w: float
    """Power of the node, by its upper bound where it is estimated (`budget.upper_power_w`)."""
    limit_w: float = inf
    """Budget that was in force."""
    tokens: float = 0.0
    """Control tokens of all lines so far; only the report needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLimit:
    """Budget at a moment."""

    limit_w: float = inf
    """Least of site limit, schedule and target; lines that tolerate a slowdown are shed for it."""
    hard_w: float = inf
    """Site limit: in the end even lines of flex 0 are shed for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Power and speed of a line while it runs, with what is known about their spread."""

    power_w: float
    """Predicted increase of the node's power, relative to the line being paused."""
    power_sd_w: float = 0.0
    tokens_per_s: float = 0.0
    is_prior: bool = True
    """True if nothing like this line was seen here yet."""

    @property
    def upper_w(self) -> float:
        """Return the upper bound of the predicted power (k = 2)."""
        return self.power_w + COVERAGE_FACTOR * self.power_sd_w


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
    """Control tokens until it ends; infinite until a line of its task has shown how many a step makes."""
    restart_s: float = PRIOR_S
    """CPU time that a pre-emption and the resume after it cost [s]."""
    preempted_s: tuple[float, ...] = ()
    """Times of its pre-emptions, newest last; those of the last hour count."""
    shed_s: tuple[float, ...] = ()
    """Times at which the scheduler paused it, newest last; those of the last hour count."""
    exit_class: ExitClass | None = None
    """Class of the last attempt that ended."""
    is_held: bool = False
    """True if a user paused it: only a user resumes it."""

    @property
    def tokens_per_joule(self) -> float:
        """Return the tokens that are lost for each joule that shedding the line saves."""
        return self.point.tokens_per_s / max(self.point.power_w, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Keeps lines from running regardless of the power, such as background lines at hours of high prices."""

    flex: int = 4
    """Least flexibility of the lines that it keeps; none has 4."""
    reason: str = ""
    is_above: bool = True
    """True above a limit, where all such lines wait; below it only those that have a deadline may choose."""
    better: tuple[tuple[float, float], ...] = ((-inf, inf),)
    """Times at which lines with a deadline had better run than now [s on the monotonic clock]."""
    spared: frozenset[int] = frozenset()
    """Lines that it lets run all the same, for their deadlines."""

    def holds(self, line: LineView) -> bool:
        """Tell whether it keeps a line from running."""
        is_meant = self.is_above or line.deadline_s is not None
        return is_meant and line.flex >= self.flex and line.id not in self.spared

    def better_s(self, now: float, until: float) -> float:
        """Return how much time there is until a moment at which lines had better run than now [s]."""
        return fsum(max(0.0, min(end, until) - max(start, now)) for start, end in self.better)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorView:
    """The floor at a moment."""

    lines: tuple[LineView, ...]
    capacity: Needs
    """All that lines may occupy together."""
    nodes: tuple[Needs, ...] = ()
    """Resources of each node, where there are several; a line occupies one of them."""
    power: tuple[PowerSample, ...] = ()
    """One sample a tick, oldest first, over the last minute or longer."""
    idle_w: float = 0.0
    """Power of the node without lines, by the same bound as the samples."""
    most_w: float = inf
    """Most power that the node can draw, by the same bound; infinite if unknown."""
    core_w: float = 0.0
    """Power of a busy core above an idle one, by the same bound; 0 if unknown."""
    is_estimated: bool = True
    is_fresh: bool = True
    """False if the meter has failed: nothing starts, and lines are shed by their predicted power."""
    is_draining: bool = False
    """True if nothing is started any more."""
    bar: Bar = field(default_factory=Bar)
    last_start_s: float = -inf
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
    predicted_sd_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Actions of a tick, in order, and the binding constraint of every line that waits."""

    actions: tuple[Action, ...] = ()
    waiting: dict[int, str] = field(default_factory=dict)
    """Sentence for each line that is queued or paused: the constraint that keeps it."""
    excess_w: float = 0.0
    """Power above the budget that no action removes: only lines of flex 0 or in transition are left."""


@dataclass(kw_only=True)
class Settings:
    """Rules of the scheduler. Powers are in W, times in s."""

    reserve_share: float = 0.05
    """Part of the budget that is left free; at least twice the standard deviation of the measured power."""
    confirm_s: float = 3.0
    """Time for which power must exceed the budget before lines are shed: one bad sample sheds nothing."""
    settle_s: float = 2.0
    """Time until the meter shows the effect of a pause."""
    stale_s: float = 10.0
    """Age of the last sample beyond which the meter counts as failed."""
    dwell_s: float = 10.0
    """Time for which power must have been free before a line resumes or starts."""
    warmup_s: float = 10.0
    """Time after a start until the meter shows the whole power of a line."""
    stagger_s: float = 2.0
    """Least time between two starts or resumes, up to half of it longer by the number of the line."""
    ramp_w_per_s: float = inf
    """Greatest change of the budget and of the power by starts; a target set for now is obeyed at once."""
    pause_s: float = 60.0
    """Longest pause before a checkpoint is considered, where the break-even is not later still."""
    min_run_s: float = 60.0
    """Least time that a line runs before one of higher priority pre-empts it."""
    preemptions_per_hour: int = 3
    """Most pre-emptions of a line in an hour."""
    ageing_s: float = 21600.0
    """Waiting time that is worth one step of priority."""
    patience_s: float = 1800.0
    """Waiting time after which a line that does not fit is served before smaller ones behind it."""
    deadline_reserve_s: float = 60.0
    """Time before the latest start for a deadline at which a line runs although electricity is dear."""
    quota_cores: dict[str, float] = field(default_factory=dict)
    """Most cores that the lines of an owner occupy together; owners that are not named have no limit."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(
            0.0 <= self.reserve_share < 1.0, "floor.reserve_share", self.reserve_share, "must be in [0, 1)"
        )
        for name in _DURATIONS:
            value = getattr(self, name)
            require(0.0 <= value < inf, f"floor.{name}", value, "must be a time >= 0 [s]")
        for name in ("ramp_w_per_s", "ageing_s"):
            require(getattr(self, name) > 0.0, f"floor.{name}", getattr(self, name), "must be > 0")
        value = self.preemptions_per_hour
        require(value >= 0, "floor.preemptions_per_hour", value, "must be >= 0")
        for owner, cores in self.quota_cores.items():
            require(cores >= 0.0, f"floor.quota_cores.{owner}", cores, "must be >= 0")


_DURATIONS = (
    "confirm_s",
    "settle_s",
    "stale_s",
    "dwell_s",
    "warmup_s",
    "stagger_s",
    "pause_s",
    "min_run_s",
    "patience_s",
    "deadline_reserve_s",
)
