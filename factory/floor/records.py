"""Plain records of the store beside lines and attempts. Times are seconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from factory.floor.keys import Key
from factory.runtime.decoding import Count, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Order of a user to the process that runs the floor."""

    id: Count
    at: Moment
    verb: str
    line: int | None
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Power and work of the floor at a moment."""

    at: Moment
    budget_w: float | None
    """None without a budget."""
    power_w: float
    joules: float
    """Energy of the node since the floor was made."""
    tokens: Count
    """Control tokens of all lines since the floor was made."""
    tokens_per_s: float
    cpu_s: float
    """CPU time of the node since the floor was made, which is counted, not estimated."""
    running: Count
    """Lines that run."""


class Priority(TypedDict):
    """Arguments of the order `priority`."""

    priority: int


class Approval(TypedDict):
    """Arguments of the order `approve`."""

    id: Count


ARGUMENTS: dict[str, Any] = {"priority": Priority, "approve": Approval}
"""Arguments of the orders that have any."""


class Running(TypedDict):
    """Last words of the process that runs the floor, or ran it, about itself."""

    power_w: NotRequired[float]
    power_upper_w: NotRequired[float]
    cores_busy: NotRequired[float]
    tier: NotRequired[str]
    joules: NotRequired[float]
    unattributed_j: NotRequired[float]
    budget: NotRequired[str]
    budget_w: NotRequired[float | None]
    at: NotRequired[Moment]
    is_draining: NotRequired[bool]
    explanation: NotRequired[list[str]]


RUNNING = Key("running", Running, {})
