"""Sweeps and their trials in the floor's store."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from factory.floor import rows
from factory.floor.lines import Line
from factory.floor.store import Store
from factory.floor.sweeps.methods import SweepPlan
from factory.floor.sweeps.trials import Trial, TrialState


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
    found = store.execute("SELECT id, plan, template FROM sweep ORDER BY id")
    return [
        StoredSweep(id=number, plan=_plan(json.loads(plan)), template=rows.to_line(json.loads(template)))
        for number, plan, template in found
    ]


def with_news(store: Store) -> list[StoredSweep]:
    """Return the sweeps with a trial whose line has ended since the last look."""
    # Asked at every tick, so it costs one query while nothing happens.
    statement = (
        "SELECT DISTINCT trial.sweep FROM trial JOIN line ON line.id = trial.line"
        " WHERE trial.is_running = 1 AND line.state IN ('finished', 'failed', 'cancelled')"
    )
    numbers = {number for (number,) in store.execute(statement)}
    if not numbers:
        return []
    return [sweep for sweep in sweeps(store) if sweep.id in numbers]


def _plan(plain: dict[str, Any]) -> SweepPlan:
    # JSON knows no tuples, and plans are compared.
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
    }
    return SweepPlan(**values)


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


def trials(store: Store, sweep: int) -> dict[int, StoredTrial]:
    """Return the trials of a sweep by number."""
    found = store.execute("SELECT number, line, record FROM trial WHERE sweep = ? ORDER BY number", sweep)
    return {
        number: StoredTrial(trial=_trial(json.loads(record)), line=line) for number, line, record in found
    }


def _trial(plain: dict[str, Any]) -> Trial:
    values = tuple(None if value is None else tuple(value) for value in plain["values"])
    return Trial(
        **plain
        | {"overrides": tuple(plain["overrides"]), "state": TrialState(plain["state"]), "values": values}
    )


def mark_cancelled(store: Store, sweep: int) -> None:
    """Write down that a user ended a sweep."""
    store.put(f"sweep {sweep} cancelled", True)
    store.record("sweep cancelled", details={"sweep": sweep})


def is_cancelled(store: Store, sweep: int) -> bool:
    """Return whether a user ended a sweep."""
    return bool(store.get(f"sweep {sweep} cancelled", False))
