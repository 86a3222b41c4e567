"""Background lines with a deadline choose the cheapest hours before it, as far as prices are known."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from floor_plant import Plant, PlantLine

from factory.floor.lines import LineState
from factory.floor.plan import Bar, PowerLimit
from factory.grid import rules
from factory.grid.rules import Rule
from factory.grid.signals import Kind, Point, Reading, Signal

DAY = Path(__file__).parents[3] / "experiments" / "012-grid" / "day.csv"
START = 1000.0
HOUR = 200.0
"""Length of an hour of the recorded day here [s]."""


def prices(*values: float) -> Signal:
    """Return a price for each hour."""
    points = [
        Point(START + HOUR * place, START + HOUR * (place + 1), value, START)
        for place, value in enumerate(values)
    ]
    return Signal(points)


def test_better_times_are_lower_known_or_as_good() -> None:
    """Below a limit only what is known to be lower counts; above it equal and unknown values as well."""
    signal = prices(0.2, 0.3, 0.1, 0.2)
    second = START + HOUR
    lower = signal.better(0.2, at_s=START + 1.0, is_equal_better=False)
    assert lower == [[second + HOUR, second + 2 * HOUR]]
    assert lower == signal.better(0.2, at_s=START + HOUR - 1.0, is_equal_better=False)
    assert signal.better(0.2, at_s=START, is_equal_better=True) == [[0.0, second], [second + HOUR, 1e12]]
    assert Signal().better(0.2, at_s=START, is_equal_better=True) == [[0.0, 1e12]]
    assert Signal().better(0.2, at_s=START, is_equal_better=False) == []


def test_a_bar_says_which_lines_it_is_about() -> None:
    """Above a limit all background lines wait, below it those with a deadline, if it is to become cheaper."""
    signals = {Kind.PRICE: prices(0.2, 0.07, 0.05)}
    rule = Rule(below_price=0.1)
    for place, (value, is_above) in enumerate(((0.2, True), (0.07, False))):
        at_s = START + HOUR * place
        found = rules.bar(rule, {Kind.PRICE: Reading(value)}, signals, at_s=at_s)
        assert found is not None and found["is_above"] is is_above
    assert found["reason"] == "waits for cheaper electricity before its deadline: 0.07 USD/kWh now"
    assert rules.bar(rule, {Kind.PRICE: Reading(0.05)}, signals, at_s=START + 2 * HOUR) is None
    assert rules.bar(Rule(), {Kind.PRICE: Reading(0.2)}, signals, at_s=START) is None


def spent(signal: Signal, known: Signal, *, deadline_s: float | None, limit: float) -> float:
    """Return the mean price at which two hours of work run, where only some prices are known before."""
    line = PlantLine(id=1, watts=10.0, flex=3, work_s=2 * HOUR, deadline_s=deadline_s)
    plant = Plant([line])
    rule = Rule(below_price=limit)
    paid: list[float] = []
    while line.state is not LineState.FINISHED:
        reading = signal.at(plant.now)
        assert reading is not None and reading.stale_s == 0.0
        readings = {Kind.PRICE: reading}
        plant.bar = Bar(**(rules.bar(rule, readings, {Kind.PRICE: known}, at_s=plant.now) or {}))
        plant.tick(PowerLimit())
        if line.state is LineState.RUNNING:
            paid.append(reading.value)
    assert deadline_s is None or plant.now <= deadline_s
    return sum(paid) / len(paid)


@pytest.mark.parametrize("limit", [0.08, 1e-6])
def test_a_line_with_a_deadline_runs_in_the_cheapest_hours_of_a_recorded_day(limit: float) -> None:
    """With prices known before it pays less than from the first hour below the limit, or the latest start."""
    with DAY.open(newline="") as file:
        day = [float(row["usd_per_mwh"]) / 1e3 for row in csv.DictReader(file)]
    signal = prices(*day)
    deadline_s = START + 23.0 * HOUR
    chosen = spent(signal, signal, deadline_s=deadline_s, limit=limit)
    blind = spent(signal, Signal(), deadline_s=deadline_s, limit=limit)
    cheapest = sum(sorted(day)[:2]) / 2
    assert chosen < blind
    # Its margin for what goes wrong is a quarter of its time, so it begins before the cheapest hour.
    assert cheapest <= chosen < 0.25 * blind + 0.75 * cheapest
