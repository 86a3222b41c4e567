"""Rules for background lines: they run while electricity is cheap, or clean, enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from factory.floor.store import Store
from factory.grid.signals import Kind, Reading

_KEY = "grid_rule"
STALEST_S = 3600.0
"""Age from which on the last value of a signal says nothing any more: lines then run."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Limits below which background lines run; without any they always do."""

    flex: int = 3
    """Least flexibility of a background line."""
    below_price: float | None = None
    """Price [USD/kWh]."""
    below_carbon: float | None = None
    """Carbon intensity [gCO2e/kWh]."""
    carbon: str = Kind.CARBON_AVERAGE.value
    """Signal that `below_carbon` is about: average or marginal."""


def read(store: Store) -> Rule:
    """Return the rule of a floor."""
    return Rule(**store.get(_KEY, {}))


def write(store: Store, rule: Rule) -> None:
    """Set the rule of a floor."""
    with store.transaction():
        store.put(_KEY, asdict(rule))
        store.record("grid rule", details=asdict(rule))


def obstacle(rule: Rule, now: Mapping[Kind, Reading | None]) -> str:
    """Return the reason for which background lines wait; empty if they run.

    Args:
        rule: the floor's rule.
        now: signals at this moment; a value that is too old counts as unknown.
    """
    # All limits have to be met. An unknown signal keeps nobody waiting: a silent feed must not stop a floor.
    limits = ((Kind.PRICE, rule.below_price), (Kind(rule.carbon), rule.below_carbon))
    for kind, below in limits:
        reading = now.get(kind)
        if below is None or reading is None or reading.stale_s > STALEST_S:
            continue
        if reading.value >= below:
            words = {Kind.PRICE: "cheaper", Kind.CARBON_AVERAGE: "cleaner", Kind.CARBON_MARGINAL: "cleaner"}
            guess = ", as forecast" if reading.is_forecast else ""
            now_text = f"{reading.value:g} {kind.unit}{guess}"
            return f"waits for {words[kind]} electricity: {now_text}, runs below {below:g}"
    return ""


def bar(rule: Rule, now: Mapping[Kind, Reading | None]) -> dict[str, Any] | None:
    """Return what keeps background lines from running, as the store holds it; None if nothing does."""
    reason = obstacle(rule, now)
    if not reason:
        return None
    return {"flex": rule.flex, "reason": reason}
