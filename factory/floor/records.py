"""Plain records of the store beside lines and attempts. Times are seconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Order of a user to the process that runs the floor."""

    id: int
    at: float
    verb: str
    line: int | None
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Power and work of the floor at a moment."""

    at: float
    budget_w: float | None
    """None without a budget."""
    power_w: float
    joules: float
    """Energy of the node since the floor was made."""
    tokens: int
    """Control tokens of all lines since the floor was made."""
    tokens_per_s: float
    cpu_s: float
    """CPU time of the node since the floor was made, which is counted, not estimated."""
    running: int
    """Lines that run."""
