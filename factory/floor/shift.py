"""A shift as answers to questions: lines that ran and their price, faults, and the operator's part in it."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import Any, TypedDict

from factory.floor.questions import QUESTIONS
from factory.floor.questions.answer import answer, reading
from factory.floor.questions.matching import Choice
from factory.floor.questions.question import Parameters
from factory.runtime import decoding

_MOST_ROWS = 1000
_LONGEST_H = 90_000.0
_LEAST_H = 1e-6


class _Ran(TypedDict):
    minutes_running: float
    percent_done: float
    tokens: int
    joules: float


class _OwnCost(TypedDict):
    ticks: int
    cpu_s: float
    ms_longest_tick: float
    percent_of_a_core: float | None
    joules: float | None


class _Hour(TypedDict):
    usd: float | None
    gco2e: float | None
    joules: float
    unpriced_joules: float
    uncounted_joules: float


_ROWS: dict[str, Any] = {"ran": _Ran, "cost_by_hour": _Hour}


def shift_answers(root: Path, *, since: float, now: float) -> dict[str, Any]:
    """Return the rows that answer questions about a shift, as plain values.

    Args:
        root: folder of the floor.
        since: start of the shift, in seconds since 1970; 0 for everything.
        now: its end.
    """
    # Kept within the range that questions allow for this parameter.
    hours = min(max((now - since) / 3600.0, _LEAST_H), _LONGEST_H)
    if since <= 0.0:
        hours = _LONGEST_H
    parameters = Parameters(hours=hours, rows=_MOST_ROWS)
    found: dict[str, Any] = {}
    with reading(root) as connection:
        for name in ("ran", "broke", "done", "suggested", "operator_cost", "cost_by_hour"):
            choice = Choice(question=QUESTIONS[name], parameters=parameters)
            given = answer(connection, choice, now=now)
            rows = [dict(zip(given.columns, row, strict=True)) for row in given.rows]
            # SQLite computes with texts and with nothing as well, and reports need numbers.
            found[name] = [decoding.decode(row, _ROWS.get(name, dict[str, Any]), name=name) for row in rows]
        own_cost = _own_cost(found["operator_cost"])
    return {
        "ran": found["ran"],
        "money": _money(found["cost_by_hour"]),
        "operator": {
            "broke": found["broke"],
            "done": [row for row in found["done"] if row["status"] != "proposed"],
            "suggests": found["suggested"],
            "cost": own_cost,
        },
    }


def _money(hours: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return money and carbon of the shift, with the energy for which no value is known; None without any."""
    if all(row["usd"] is None and row["gco2e"] is None for row in hours):
        return None
    # Hours without a value add nothing here; their energy is in the sums of unpriced and uncounted joules.
    sums = {key: fsum(row[key] or 0.0 for row in hours) for key in hours[0] if key != "hour_utc"}
    return {key: sums[key] for key in ("usd", "gco2e", "joules", "unpriced_joules", "uncounted_joules")}


def _own_cost(rows: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return what the operator itself has taken; None if none has watched."""
    if not rows or not rows[0]["ticks"]:
        return None
    return decoding.decode(rows[0], _OwnCost, name="operator_cost")
