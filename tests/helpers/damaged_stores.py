"""A small floor that has everything in its store, and copies of it with one wrong value each."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from floor_lines import make_line

from factory.floor.bars import BAR
from factory.floor.books import Books, LineAccount
from factory.floor.budget import Target
from factory.floor.budget_commands import SCHEDULE, add_targets
from factory.floor.curves import CURVES, Curves, Observation, Subject
from factory.floor.floor_books import BOOKS, FloorBooks
from factory.floor.lines import Attempt, ExitClass, Handle, LineState
from factory.floor.node_meter import NodeReading
from factory.floor.records import RUNNING, Sample
from factory.floor.restarts import RESTARTS
from factory.floor.store import FILE, Store
from factory.floor.supervisor import KEPT
from factory.floor.sweeps import table
from factory.floor.sweeps.methods import SweepPlan
from factory.floor.sweeps.trials import Trial, TrialState
from factory.grid import costs, intake, rules, signals
from factory.grid.signals import Kind, Point
from factory.operator.journal import Journal
from factory.operator.own_cost import OwnCost
from factory.operator.stored import FINDINGS, MODEL_BOOKS, STATE
from factory.operator.words import Candidate, Evidence, Fault, Finding, Severity, Status, Verb

DEEP = "[" * 100_000 + "]" * 100_000
"""Brackets that a parser which calls itself does not survive."""
COLUMNS: tuple[Any, ...] = (
    None,
    "no such word",
    "",
    -1,
    2**63 - 1,
    5e-324,
    1e308,
    float("inf"),
    b"\xff\x00",
    "a\0b",
    "[]",
    "{}",
    '{"a": NaN}',
    DEEP,
)
"""Values for a column, of a wrong type or out of its range."""
VALUES: tuple[str, ...] = (
    "null",
    '"no such word"',
    "-1",
    "5e-324",
    "1e308",
    "NaN",
    "Infinity",
    "1" + "0" * 400,
    "true",
    "[]",
    "{}",
    '[["x"]]',
    '"a\\u0000b"',
    '"\\ud800"',
    "[" * 40 + "]" * 40,
)
"""JSON texts for a value inside of JSON."""
_MARK = "4b1d marks the place"
_LOOSE = re.compile(r" STRICT$| NOT NULL|\b(?:TEXT|REAL|INTEGER)\b(?! PRIMARY KEY A)")


@dataclass(frozen=True)
class Place:
    """A value in the store: a column of a row, or something inside of its JSON."""

    table: str
    row: int
    column: str
    path: tuple[str | int, ...] | None = None
    """Keys and places inside of the JSON; None for the column as it is."""

    def __str__(self) -> str:
        return f"{self.table}[{self.row}].{self.column} {self.path}"


def make_floor(root: Path) -> None:
    """Make a floor with lines in several states, a sweep, a budget, the grid, curves and an operator."""
    now = time.time()
    with Store(root, create=True) as store, store.transaction():
        for number in range(1, 5):
            store.add_line(
                make_line(owner="ann", run_dir=str(root / "lines" / "{id}" / "run"), deadline=now + 1e5)
            )
            _attempt(store, root, number)
        _move(store, 1, LineState.STARTING, LineState.RUNNING)
        _move(store, 3, LineState.STARTING, LineState.RUNNING, LineState.FAILED, exit_class=ExitClass.CRASH)
        _move(store, 4, LineState.STARTING, LineState.RUNNING, LineState.FINISHED, exit_class=ExitClass.OK)
        for number in (1, 3, 4):
            store.update(
                number, steps=500, tokens=400, joules=90.0, waste_j=3.0, tokens_per_s=10.0, power_w=2.0
            )
        for verb in ("start", "pause", "preempt"):
            store.record(verb, line=1, details={"predicted_w": 5.0, "predicted_sd_w": 1.0, "reason": "room"})
        for second in range(60):
            store.add_sample(_sample(now - 60.0 + second, second))
        store.add_command("priority", line=2, priority=3)
        store.add_command("approve", id=1)
        _fill_floor(store, now)
        _fill_grid(store, now)
        _fill_operator(store, now)


def _attempt(store: Store, root: Path, number: int) -> None:
    folder = root / "lines" / str(number) / "1"
    folder.mkdir(parents=True)
    (folder / "stdout").write_text("hello\n")
    handle = Handle(engine="local", host="elsewhere", pid=4_000_000, started=1.0, boot_id="none")
    attempt = Attempt(line=number, number=1, folder=str(folder), handle=handle, started_at=1.0, steps_from=0)
    store.add_attempt(replace(attempt, ended_at=9.0, exit_class=ExitClass.KILLED, steps_to=5, joules=2.0))


def _move(store: Store, number: int, *states: LineState, **changes: Any) -> None:
    for state in states:
        store.move(store.line(number), state, "for a test", attempts=1)
    store.update(number, **changes, reason="for a test")


def _sample(at: float, second: int) -> Sample:
    return Sample(
        at=at,
        budget_w=40.0,
        power_w=30.0,
        joules=30.0 * second,
        tokens=10 * second,
        tokens_per_s=10.0,
        cpu_s=1.0 * second,
        running=1,
    )


def _fill_floor(store: Store, now: float) -> None:
    reading = NodeReading(positions={"rapl": {"package": 5.0}})
    account = LineAccount(joules=90.0, waste_j=3.0, cpu_s=4.0, attempt=1, attempt_cpu_s=4.0)
    books = Books(node_j=200.0, rest_j=20.0, lines={1: account}, last=reading)
    store.put(BOOKS, FloorBooks(by_host={"elsewhere": books}).to_plain())
    curves = Curves(prior_w_per_core=8.0)
    subject = Subject("a", "cartpole", 1.0, "node", "commit")
    for power_w in (5.0, 7.0, 9.0):
        curves.observe(subject, Observation(duty=1.0, power_w=power_w, tokens_per_s=2.0 * power_w))
    store.put(CURVES, curves.to_plain())
    store.put(RESTARTS, {"cartpole_swingup": [5.0, 6.0]})
    store.put(KEPT, {1: (400, 80.0)})
    store.put(BAR, {"flex": 3, "reason": "dear", "is_above": True, "better": [[0.0, now], [now + 9.0, 1e12]]})
    plain: dict[str, Any] = {"power_w": 30.0, "power_upper_w": 35.0, "cores_busy": 1.0, "tier": "estimated"}
    plain |= {"joules": 200.0, "unattributed_j": 20.0, "budget": "40 W", "at": now, "is_draining": False}
    store.put(RUNNING, plain | {"explanation": ["words"], "budget_w": 40.0})
    store.put(SCHEDULE, [[now - 50.0, 40.0], [now + 1e4, 60.0]])
    targets = [
        Target(watts=40.0, start=now, end=now + 1e4, issued=now),
        Target(watts=float("inf"), start=now),
    ]
    add_targets(store, targets, now=now)
    plan = SweepPlan(
        method="asha",
        ranges=("learner.learning_rate=1e-4,1e-3",),
        total_steps=1000,
        trials=0,
        eta=2,
        rungs=(500, 1000),
        metric=("eval/return_mean",),
        parallel=1,
        search_seed=0,
    )
    sweep = table.add_sweep(store, plan, make_line())
    trial = Trial(id=0, overrides=("learner.learning_rate=1e-4",), values=((3.0,),), steps=500)
    table.put_trial(store, sweep.id, replace(trial, state=TrialState.PAUSED), 4)
    table.put_trial(store, sweep.id, replace(trial, id=1, values=(None,), state=TrialState.FAILED), 3)
    table.mark_cancelled(store, 7)


def _fill_grid(store: Store, now: float) -> None:
    for kind in Kind:
        signals.join(
            store, kind, [Point(now - 1e4, now + 1e4, 0.2, now), Point(now, now + 1e5, 0.1, now, True)]
        )
    store.put(intake.SETTINGS, {"feed": "hall", "pue": 1.2})
    intake.remember(store, "message 1")
    rules.write(store, rules.Rule(below_price=0.1, below_carbon=0.1))
    for number in (1, 3):
        cost = costs.Cost(joules=90.0, seen_j=90.0, usd=0.1, gco2e_average=2.0, stale_j=1.0)
        store.put(costs.COST.of(number), asdict(cost))


def _fill_operator(store: Store, now: float) -> None:
    journal = Journal(store)
    evidence = Evidence(name="memory", value=0.9, unit="share", limit=0.8)
    finding = Finding(fault=next(iter(Fault)), line=1, severity=Severity.WARNING, evidence=(evidence,))
    candidate = Candidate(verb=next(iter(Verb)), line=1, predicted_w=1.0)
    journal.propose(finding, candidate, by="rule")
    made = journal.propose(finding, candidate, by="llm")
    made = replace(made, before={"power_w": 3.0}, undo=[0, 1], instead_of=candidate)
    journal.change(made, Status.DONE, "for a test")
    journal.record("finding", line=1, id=finding.id, severity="warning", evidence=[asdict(evidence)])
    OwnCost(store)
    store.execute("INSERT INTO operator_cost VALUES (?, 60.0, 60, 0.5, 0.1)", now)
    shown = {"id": finding.id, "severity": "warning", "since": now, "evidence": [asdict(evidence)]}
    store.put(FINDINGS, [shown])
    store.put(STATE, {"failed_in_a_row": 1})
    store.put(MODEL_BOOKS, {"asked_at": [now], "calls": 1, "tokens_in": 50, "tokens_out": 5, "usd": 0.001})


class DamagedStores:
    """Copies of one floor, each with one wrong value."""

    def __init__(self, folder: Path) -> None:
        """Make the floor below `folder`."""
        self._whole = folder / "whole"
        make_floor(self._whole)
        self._copy = folder / "copy"
        with sqlite3.connect(self._whole / FILE) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            self._schema = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            self._places = list(_places(connection))
        connection.close()
        self._loose = folder / "loose.db"
        shutil.copyfile(self._whole / FILE, self._loose)
        # SQLite refuses wrong types in a strict table; whoever writes the file's bytes does not ask SQLite.
        _declare(self._loose, [(name, _LOOSE.sub("", sql)) for name, sql in self._schema if sql])

    @property
    def places(self) -> list[Place]:
        """Return all columns and all values inside of JSON, of the first rows of each table."""
        return self._places

    def bad_values(self, place: Place) -> tuple[Any, ...]:
        """Return the wrong values for a place."""
        if place.path is None:
            return COLUMNS
        return VALUES

    def damaged(self, place: Place, value: Any) -> Path:
        """Return the folder of a floor that holds a wrong value; the next call replaces it."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._whole, self._copy)
        path = self._copy / FILE
        shutil.copyfile(self._loose, path)
        with sqlite3.connect(path) as connection:
            if place.path is not None:
                query = f"SELECT {place.column} FROM {place.table} WHERE rowid = ?"
                plain = json.loads(connection.execute(query, (place.row,)).fetchone()[0])
                value = _replaced(plain, place.path, value)
            query = f"UPDATE {place.table} SET {place.column} = ? WHERE rowid = ?"
            connection.execute(query, (value, place.row))
        connection.close()
        _declare(path, self._schema)
        return self._copy


def _declare(path: Path, schema: list[tuple[str, str]]) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for name, sql in schema:
            connection.execute(
                "UPDATE sqlite_master SET sql = ? WHERE name = ? AND type = 'table'", (sql, name)
            )
    connection.close()


def _places(connection: sqlite3.Connection) -> Iterator[Place]:
    connection.row_factory = sqlite3.Row
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    for name in [row["name"] for row in tables]:
        seen: set[str] = set()
        for row in connection.execute(f"SELECT rowid AS number, * FROM {name} ORDER BY rowid").fetchall():
            for column in row.keys()[1:]:
                # Rows of one kind have the same columns and keys, so that one of each is enough.
                kind = row["key"] if name == "state" else row["kind"] if name == "event" else ""
                for path in _paths(row[column]):
                    shape = f"{kind} {column} {path}"
                    is_rowid = column in ("id", "seq")
                    if shape not in seen and not (is_rowid and path is None):
                        seen.add(shape)
                        yield Place(name, row["number"], column, path)


def _paths(content: Any) -> Iterator[tuple[str | int, ...] | None]:
    yield None
    if isinstance(content, str) and content[:1] in ("{", "["):
        yield from _inside(json.loads(content), ())


def _inside(plain: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(plain, dict):
        for key, item in plain.items():
            yield from _inside(item, (*path, key))
    elif isinstance(plain, list):
        for place, item in enumerate(plain[:5]):
            yield from _inside(item, (*path, place))


def _replaced(plain: Any, path: tuple[str | int, ...], text: str) -> str:
    """Return JSON with a text in the place of a value."""
    if not path:
        return text
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = _MARK
    return json.dumps(plain).replace(json.dumps(_MARK), text)
