"""Settings of `floor score`."""

from __future__ import annotations

from dataclasses import dataclass

from factory.operator.config import DECIDERS
from factory.operator.replay import ReplayMode
from factory.operator.scoring.cases import BY_NAME, Case
from factory.validation import require

ORACLE = "oracle"
"""Decider that is told fault and line at once; it lives in the score only."""
FAILING = tuple(f"llm_{mode}" for mode in ReplayMode if mode is not ReplayMode.OK)
"""Deciders that ask an endpoint which fails in some way."""
PAGE = "docs/operator.md"
"""Documentation of the settings."""
_ALL = "all"


@dataclass(kw_only=True)
class ScoreConfig:
    """Settings of a score."""

    classes: str = _ALL
    """Classes of faults, separated by commas."""
    deciders: str = "none,rule,bandit,llm,oracle"
    """Deciders, separated by commas; `oracle` knows the fault and takes part in replayed trials only."""
    live: int = 1
    """Seeds with real lines of each class and decider; decider `none` is recorded for the replayed trials."""
    seeds: int = 10
    """Seeds of replayed trials of each class and decider."""
    hours: int = 12
    """Hours of ten lines without a fault, of each decider."""
    out: str = ""
    """JSON file to write."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        for name in self.classes.split(","):
            is_known = name in BY_NAME or self.classes == _ALL
            require(is_known, "classes", name, f"choose all, or some of {', '.join(BY_NAME)}")
        for name in self.deciders.split(","):
            known = (*DECIDERS, ORACLE, *FAILING)
            require(name in known, "deciders", name, f"choose some of {', '.join(known)}")
        for key, most in (("live", 100), ("seeds", 1000), ("hours", 2400)):
            value = getattr(self, key)
            require(0 <= value <= most, key, value, f"must be in [0, {most}]")
        require(not self.out or self.out.endswith(".json"), "out", self.out, "name a file that ends in .json")

    @property
    def cases(self) -> list[Case]:
        """Return the classes of faults."""
        if self.classes == _ALL:
            return list(BY_NAME.values())
        return [BY_NAME[name] for name in self.classes.split(",")]
