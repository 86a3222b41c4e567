"""Settings of the operator: `floor run operator.<key>=<value>`."""

from __future__ import annotations

from dataclasses import dataclass, field

from factory.operator.llm_config import LlmConfig
from factory.operator.thresholds import Thresholds
from factory.operator.words import Verb
from factory.validation import require

DECIDERS = ("none", "rule", "bandit", "llm")


@dataclass(kw_only=True)
class BanditConfig:
    """Settings below `operator.bandit`."""

    seed: int = 0
    prior: float = 5.0
    """Weight of the rule's order, in outcomes; a greater one is overruled later."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        require(0.1 <= self.prior <= 1e6, "operator.bandit.prior", self.prior, "must be in [0.1, 1e6]")


@dataclass(kw_only=True)
class OperatorConfig:
    """Settings below `operator`. Times are in seconds."""

    decider: str = "rule"
    """Chooser of actions; `bandit` and `llm` may replace the choice of `rule`."""
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
    bandit: BanditConfig = field(default_factory=BanditConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)

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
        self._check_language_model()

    def _check_language_model(self) -> None:
        if self.decider != "llm":
            url = self.llm.base_url
            require(not url, "operator.llm.base_url", url, "is asked by operator.decider=llm only")
            return
        remedy = "decider llm needs the endpoint, such as http://127.0.0.1:8080/v1"
        require(bool(self.llm.base_url), "operator.llm.base_url", self.llm.base_url, remedy)
        remedy = "decider llm needs the name of a model that the endpoint serves"
        require(bool(self.llm.model), "operator.llm.model", self.llm.model, remedy)
