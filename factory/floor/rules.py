"""Settings of the process of `floor run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from factory.energy.config import EnergyConfig
from factory.floor.plan import Settings


@dataclass(kw_only=True)
class Rules:
    """Settings of `floor run`."""

    watts: float = inf
    """Limit of the site [W]."""
    tick_s: float = 1.0
    profile: str = ""
    """Power profile of lines that name none; empty for the default."""
    is_forever: bool = False
    """True to wait for more lines when all have ended."""
    scheduler: Settings = field(default_factory=Settings)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    """Meter of this host."""
