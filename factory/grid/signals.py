"""Prices and carbon intensities over time: actual values apart from forecasts, gaps known as such."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from itertools import pairwise
from math import inf, isfinite

from factory.floor.budget import Target, latest_steps
from factory.floor.keys import Key
from factory.floor.store import Store
from factory.runtime.decoding import Count

MOST_POINTS = 20_000
"""Two months of five minutes; the oldest make room."""
_MOST_STEPS = 500
"""Steps of a signal that a plan looks ahead; at 15 minutes these are five days."""
_EVER = (0.0, 1e12)
"""Times before and after all others, as JSON holds them."""
_VERSION = Key("grid_signal_version", Count, 0)
SIGNAL = Key("grid_signal/{}", list[tuple[float, float, float, float, bool]], [])
"""Points of a quantity, each as its fields in their order."""


class Kind(StrEnum):
    """Quantity of a signal."""

    PRICE = "price"
    """Price of electricity [USD/kWh]."""
    CARBON_AVERAGE = "carbon_average"
    """Carbon of all that is generated [gCO2e/kWh]."""
    CARBON_MARGINAL = "carbon_marginal"
    """Carbon of what one more kilowatt-hour takes [gCO2e/kWh]; never mixed with the average."""

    @property
    def unit(self) -> str:
        """Unit for people."""
        if self is Kind.PRICE:
            return "USD/kWh"
        return "gCO2e/kWh"


@dataclass(frozen=True, slots=True)
class Point:
    """A value in a half-open interval of time [s since 1970, UTC]."""

    start: float
    end: float
    value: float
    issued: float
    """Time at which it was published; of values for the same time the latest counts."""
    is_forecast: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Value of a signal at a moment."""

    value: float
    is_forecast: bool = False
    stale_s: float = 0.0
    """Time since the last known interval ended [s]; 0 while one covers the moment."""


class Signal:
    """One quantity over time."""

    def __init__(self, points: Iterable[Point] = ()) -> None:
        """Keep the points, in any order."""
        # By time of publication, since the latest of several values for one time counts.
        self.points = tuple(sorted(set(points), key=lambda point: (point.issued, point.start)))
        self._actual = _Steps([point for point in self.points if not point.is_forecast])
        self._forecast = _Steps([point for point in self.points if point.is_forecast])

    def joined(self, added: Iterable[Point]) -> Signal:
        """Return the signal with more points; those that it has already change nothing."""
        latest: dict[tuple[float, float, bool], Point] = {}
        # In the order in which they were published, so a late message replaces nothing that is newer.
        for point in sorted((*self.points, *added), key=lambda point: point.issued):
            key = (point.start, point.end, point.is_forecast)
            # Told once more, a value is no news.
            if key not in latest or latest[key].value != point.value:
                latest[key] = point
        kept = sorted(latest.values(), key=lambda point: point.start)
        return Signal(kept[-MOST_POINTS:])

    def better(self, than: float, *, at_s: float, is_equal_better: bool) -> list[list[float]]:
        """Return start and end of the times with lower values.

        Args:
            than: value to compare with.
            at_s: moment from which on to look; the result is the same for all moments of a step.
            is_equal_better: whether times with the same value, or an unknown one, count as well.
        """
        starts = sorted({at for at in (*self._actual.times, *self._forecast.times) if at > at_s})[
            :_MOST_STEPS
        ]
        edges = [_EVER[0], *starts, _EVER[1]]
        found: list[list[float]] = []
        for start, end in pairwise(edges):
            reading = self.at(max(start, at_s))
            if reading is None or reading.stale_s > 0.0:
                is_better = is_equal_better
            else:
                is_better = reading.value < than or (is_equal_better and reading.value == than)
            if is_better and found and found[-1][1] == start:
                found[-1][1] = end
            elif is_better:
                found.append([start, end])
        return found

    def at(self, time_s: float) -> Reading | None:
        """Return the value at a moment: the actual one, else a forecast, else the last one known."""
        actual = self._actual.at(time_s)
        # What has happened beats what was foretold; both beat what was known last.
        if actual is not None and actual.stale_s == 0.0:
            return actual
        forecast = self._forecast.at(time_s)
        if forecast is not None and forecast.stale_s == 0.0:
            return Reading(forecast.value, is_forecast=True)
        return actual


class _Steps:
    """Steps of a signal, with the moment at which each value ends."""

    def __init__(self, points: Sequence[Point]) -> None:
        # The same rule as for targets of the budget: of the points in force the latest counts.
        found = list(
            latest_steps([Target(watts=point.value, start=point.start, end=point.end) for point in points])
        )
        self.times = [at for at, _ in found]
        self._values = [value for _, value in found]

    def at(self, time_s: float) -> Reading | None:
        index = bisect_right(self.times, time_s) - 1
        if index < 0:
            return None
        if isfinite(self._values[index]):
            return Reading(self._values[index])
        # A gap: the last value before it, and its age.
        return Reading(self._values[index - 1], stale_s=max(time_s - self.times[index], 1e-9))


def read(store: Store, kind: Kind) -> Signal:
    """Return a signal as the floor knows it."""
    return Signal(Point(*row) for row in store.get(SIGNAL.of(kind)))


def join(store: Store, kind: Kind, added: Sequence[Point]) -> int:
    """Add points to a signal of the floor, and return the number of new ones."""
    with store.transaction():
        before = read(store, kind)
        after = before.joined(added)
        num_new = len(set(after.points) - set(before.points))
        if num_new:
            store.put(SIGNAL.of(kind), [astuple(point) for point in after.points])
            store.put(_VERSION, version(store) + 1)
            store.record("grid signal", details={"kind": kind.value, "points": num_new})
    return num_new


def version(store: Store) -> int:
    """Return a number that grows with every change of a signal."""
    return int(store.get(_VERSION))


def closed(starts: Sequence[tuple[float, float]], *, last_s: float) -> list[tuple[float, float, float]]:
    """Return start, end and value of rows that hold until the next one.

    Args:
        starts: start [s since 1970, UTC] and value of each row, by rising time.
        last_s: length of the last row, where there is only one [s].
    """
    found: list[tuple[float, float, float]] = []
    for place, (start, value) in enumerate(starts):
        end = inf
        if place + 1 < len(starts):
            end = starts[place + 1][0]
        elif place > 0:
            # The last row is as long as the one before it.
            end = start + start - starts[place - 1][0]
        else:
            end = start + last_s
        found.append((start, end, value))
    return found
