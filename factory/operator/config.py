"""Settings of the operator: `floor run operator.<key>=<value>`."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.operator.thresholds import Thresholds
from factory.operator.words import Verb
from factory.validation import require

DECIDERS = ("rule", "none")


@dataclass(kw_only=True)
class OperatorConfig:
    """Settings below `operator`. Times are in seconds."""

    decider: str = "rule"
    allow: list[str] = field(
        default_factory=lambda: [
            "alert",
            "retry_now",
            "continue",
            "restart",
            "checkpoint_restart",
            "rebind",
            "hold",
            "release",
        ]
    )
    """Actions that mode `auto` takes by itself; all others wait for `approve`."""
    dwell_s: float = 30.0
    """Least time between two actions on a line."""
    actions_per_hour: int = 20
    """Most actions in an hour, alerts not counted."""
    verify_s: float = 60.0
    """Time for the effect of an action to be seen; for a checkpoint and an end, twice as long."""
    cure_s: float = 120.0
    """Time for the fault to go away after the effect; then the action is undone if it can be."""
    unsafe_s: float = 3600.0
    """Time for which an action that did not help is not tried again in the same context."""
    breaker: int = 3
    """Failed actions in a row after which none is taken until `operator reset`."""
    stale_s: float = 5.0
    """Age of the meter's reading above which nothing is done that changes power."""
    freeze_s: float = 2.0
    """Time around a checkpoint in which its line is left alone."""
    expire_s: float = 3600.0
    """Time after which an unapproved proposal is dropped."""
    detect: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(self.decider in DECIDERS, "operator.decider", self.decider, f"choose {' or '.join(DECIDERS)}")
        for name in self.allow:
            known = [verb.value for verb in Verb]
            require(name in known, "operator.allow", name, f"choose some of {', '.join(known)}")
        for name in ("dwell_s", "verify_s", "cure_s", "unsafe_s", "stale_s", "freeze_s", "expire_s"):
            value = getattr(self, name)
            require(0.0 <= value < float("inf"), f"operator.{name}", value, "must be a time >= 0 [s]")
        require(
            0 <= self.actions_per_hour <= 3600,
            "operator.actions_per_hour",
            self.actions_per_hour,
            "must be in [0, 3600]",
        )
        require(self.breaker >= 1, "operator.breaker", self.breaker, "must be >= 1")
