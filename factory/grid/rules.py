"""Rules for background lines: they run while electricity is cheap, or clean, enough.

Those with a deadline choose among the hours before it, as far as prices or forecasts are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from factory.floor.keys import Key
from factory.floor.store import Store
from factory.grid.signals import Kind, Reading, Signal
from factory.runtime.decoding import Within

_WORDS = {Kind.PRICE: "cheaper", Kind.CARBON_AVERAGE: "cleaner", Kind.CARBON_MARGINAL: "cleaner"}
STALEST_S = 3600.0
"""Age from which on the last value of a signal says nothing any more: lines then run."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Limits below which background lines run; without any they always do."""

    flex: Annotated[int, Within(1, 3)] = 3
    """Least flexibility of a background line."""
    below_price: float | None = None
    """Price [USD/kWh]."""
    below_carbon: float | None = None
    """Carbon intensity [gCO2e/kWh]."""
    carbon: Kind = Kind.CARBON_AVERAGE
    """Signal that `below_carbon` is about: average or marginal."""


RULE = Key("grid_rule", Rule, Rule())


def read(store: Store) -> Rule:
    """Return the rule of a floor."""
    return store.get(RULE)


def write(store: Store, rule: Rule) -> None:
    """Set the rule of a floor."""
    with store.transaction():
        store.put(RULE, asdict(rule))
        store.record("grid rule", details=asdict(rule))


def bar(
    rule: Rule, now: Mapping[Kind, Reading | None], signals: Mapping[Kind, Signal], *, at_s: float
) -> dict[str, Any] | None:
    """Return what keeps background lines from running, as the store holds it; None if nothing does.

    Above a limit all of them wait, below it those with a deadline before which enough cheaper time is known.

    Args:
        rule: the floor's rule.
        now: signals at this moment.
        signals: signals over time.
        at_s: this moment [s since 1970, UTC].
    """
    limited = _limited(rule, now)
    for kind, below, reading in limited:
        # All limits have to be met.
        if reading.value >= below:
            better = signals[kind].better(reading.value, at_s=at_s, is_equal_better=True)
            reason = f"waits for {_WORDS[kind]} electricity: {_text(kind, reading)}, runs below {below:g}"
            return {"flex": rule.flex, "reason": reason, "is_above": True, "better": better}
    for kind, _, reading in limited[:1]:
        better = signals[kind].better(reading.value, at_s=at_s, is_equal_better=False)
        if better:
            reason = f"waits for {_WORDS[kind]} electricity before its deadline: {_text(kind, reading)} now"
            return {"flex": rule.flex, "reason": reason, "is_above": False, "better": better}
    return None


def _limited(rule: Rule, now: Mapping[Kind, Reading | None]) -> list[tuple[Kind, float, Reading]]:
    """Return the known signals that have a limit, with limit and value; the price comes first."""
    found: list[tuple[Kind, float, Reading]] = []
    for kind, below in ((Kind.PRICE, rule.below_price), (rule.carbon, rule.below_carbon)):
        reading = now.get(kind)
        # An unknown signal keeps nobody waiting: a silent feed must not stop a floor.
        if below is not None and reading is not None and reading.stale_s <= STALEST_S:
            found.append((kind, below, reading))
    return found


def _text(kind: Kind, reading: Reading) -> str:
    guess = ", as forecast" if reading.is_forecast else ""
    return f"{reading.value:g} {kind.unit}{guess}"
