"""Sweeps and their trials in the floor's store."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from factory.floor import rows
from factory.floor.keys import Key
from factory.floor.lines import Line
from factory.floor.store import Store
from factory.floor.sweeps.methods import METHODS, SweepPlan
from factory.floor.sweeps.trials import Trial, TrialState
from factory.runtime.decoding import Count, MismatchError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSweep:
    """A sweep on the floor."""

    id: int
    plan: SweepPlan
    template: Line
    """Line of a trial, without the arguments that vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrial:
    """A trial and the line that trains it."""

    trial: Trial
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _SweepRow:
    id: Count
    plan: SweepPlan
    template: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrialRow:
    number: Count
    line: Count
    record: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class _SweepNumber:
    sweep: Count


_CANCELLED = Key("sweep {} cancelled", bool, False)


def add_sweep(store: Store, plan: SweepPlan, template: Line) -> StoredSweep:
    """Add a sweep without trials."""
    with store.transaction():
        statement = "INSERT INTO sweep (created_at, plan, template) VALUES (?, ?, ?)"
        plain = json.dumps(rows.line_row(template))
        number = store.execute(statement, time.time(), json.dumps(asdict(plan)), plain).lastrowid
        assert number is not None
        store.record("sweep", details={"sweep": number, **asdict(plan)})
    return StoredSweep(id=number, plan=plan, template=template)


def sweeps(store: Store) -> list[StoredSweep]:
    """Return all sweeps, oldest first."""
    found = store.select(_SweepRow, "SELECT id, plan, template FROM sweep ORDER BY id", name="sweep")
    with store.reading():
        return [_stored(row) for row in found]


def _stored(row: _SweepRow) -> StoredSweep:
    plan = row.plan
    if plan.method not in METHODS or not plan.rungs or not plan.metric:
        raise MismatchError(f"sweep {row.id}: a plan without a known method, rungs or a metric")
    template = rows.to_line(row.template, name=f"template of sweep {row.id}")
    return StoredSweep(id=row.id, plan=plan, template=template)


def with_news(store: Store) -> list[StoredSweep]:
    """Return the sweeps with a trial whose line has ended since the last look."""
    # Asked at every tick, so it costs one query while nothing happens.
    statement = (
        "SELECT DISTINCT trial.sweep FROM trial JOIN line ON line.id = trial.line"
        " WHERE trial.is_running = 1 AND line.state IN ('finished', 'failed', 'cancelled')"
    )
    numbers = {row.sweep for row in store.select(_SweepNumber, statement, name="trial")}
    if not numbers:
        return []
    return [sweep for sweep in sweeps(store) if sweep.id in numbers]


def sweep(store: Store, number: int) -> StoredSweep:
    """Return a sweep.

    Raises:
        ValueError: there is no such sweep.
    """
    for found in sweeps(store):
        if found.id == number:
            return found
    raise ValueError(f"sweep {number}: not on this floor; `sweep status` lists the sweeps")


def put_trial(store: Store, sweep: int, trial: Trial, line: int) -> None:
    """Add or replace a trial, which line `line` trains."""
    names = "sweep, number, line, is_running, record"
    statement = f"INSERT OR REPLACE INTO trial ({names}) VALUES (?, ?, ?, ?, ?)"
    is_running = int(trial.state is TrialState.RUNNING)
    with store.transaction():
        store.execute(statement, sweep, trial.id, line, is_running, json.dumps(asdict(trial)))


def trials(store: Store, sweep: StoredSweep) -> dict[int, StoredTrial]:
    """Return the trials of a sweep by number."""
    query = "SELECT number, line, record FROM trial WHERE sweep = ? ORDER BY number"
    found = store.select(_TrialRow, query, sweep.id, name=f"trial of sweep {sweep.id}")
    lines = {line.id for line in store.lines()}
    with store.reading():
        for row in found:
            _check_trial(row, sweep.plan, lines)
    return {row.number: StoredTrial(trial=row.record, line=row.line) for row in found}


def _check_trial(row: _TrialRow, plan: SweepPlan, lines: Collection[int]) -> None:
    """Raise MismatchError unless a trial belongs to a plan and a line."""
    trial = row.record
    has_metrics = all(value is None or len(value) == len(plan.metric) for value in trial.values)
    if (
        row.line not in lines
        or trial.id != row.number
        or trial.next_rung > len(plan.rungs)
        or not has_metrics
    ):
        raise MismatchError(f"trial {row.number}: not one of its sweep's plan, or without a line")


def mark_cancelled(store: Store, sweep: int) -> None:
    """Write down that a user ended a sweep."""
    store.put(_CANCELLED.of(sweep), True)
    store.record("sweep cancelled", details={"sweep": sweep})


def is_cancelled(store: Store, sweep: int) -> bool:
    """Return whether a user ended a sweep."""
    return bool(store.get(_CANCELLED.of(sweep)))
