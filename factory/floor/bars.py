"""Reasons that keep lines of some flexibility from running, as the grid and others store them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factory.floor.clock import MonotonicTimes
from factory.floor.keys import Key
from factory.floor.plan import Bar
from factory.floor.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBar:
    """A `Bar` with times in seconds since 1970."""

    flex: int
    reason: str = ""
    is_above: bool = True
    better: tuple[tuple[float, float], ...] | None = None
    """None for all times."""


BAR = Key("bar", StoredBar | None)


def read(store: Store, times: MonotonicTimes) -> Bar:
    """Return the bar of a floor with times on the monotonic clock; without one, a bar that keeps no line."""
    stored = store.get(BAR)
    if stored is None:
        return Bar()
    bar = Bar(flex=stored.flex, reason=stored.reason, is_above=stored.is_above)
    if stored.better is None:
        return bar
    better = tuple((times.future(start), times.future(end)) for start, end in stored.better)
    return replace(bar, better=better)
