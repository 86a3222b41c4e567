"""The store of a floor: lines, attempts, events and commands in one SQLite file.

All SQL is here, in `schema`, `audit`, `sweeps.table`, and, read-only, in `questions`. Every change
of state is one transaction together with its event, on the disk before anything else happens. The process of
`floor run` makes all changes of state; other commands add lines and commands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from factory.floor import audit, rows
from factory.floor.audit import Event
from factory.floor.lines import TRANSITIONS, Attempt, Line, LineState
from factory.floor.records import ARGUMENTS, Command, Sample
from factory.floor.store_errors import store_faults
from factory.floor.store_file import FILE, StoreFile
from factory.runtime import decoding

__all__ = ["FILE", "Store"]


class Store(StoreFile):
    """The store of one floor. Use it as a context manager."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        """Open the store of a floor, see `StoreFile`."""
        # Reading a thousand lines takes 10 ms, and most ticks change none of them.
        self._lines: dict[int, Line] | None = None
        self._data_version = -1
        self.num_changes = 0
        """Grows with every line that is added or moved, by whatever process."""
        super().__init__(root, create=create)

    def add_line(self, line: Line) -> Line:
        """Queue a line; its id and times are set here."""
        with self.transaction():
            now = time.time()
            values = rows.line_row(line) | {"created_at": now, "state_since": now}
            del values["id"]
            number = self._insert("line", values)
            # The folder of the run is below that of the line, whose name is its id.
            run_dir = line.run_dir.replace("{id}", str(number))
            self._connection.execute("UPDATE line SET run_dir = ? WHERE id = ?", (run_dir, number))
            queued = replace(line, id=number, run_dir=run_dir, created_at=now, state_since=now)
            if self._lines is not None:
                self._lines[number] = queued
            self.record("submitted", line=number, details={"name": line.name, "overrides": line.overrides})
        return queued

    def line(self, number: int) -> Line:
        """Return a line.

        Raises:
            ValueError: there is no such line.
        """
        found = self._known_lines().get(number)
        if found is None:
            raise ValueError(f"line {number}: not on this floor; `status` lists the lines")
        return found

    def lines(self, states: Collection[LineState] = tuple(LineState)) -> list[Line]:
        """Return the lines in some states, oldest first."""
        return [line for line in self._known_lines().values() if line.state in states]

    def _forget(self) -> None:
        self._lines = None

    def _known_lines(self) -> dict[int, Line]:
        """Return all lines by id, read again only if another process has written."""
        with store_faults(self._path):
            version = self.data_version
        if self._lines is None or version != self._data_version:
            found = self._rows("SELECT {} FROM line ORDER BY id", rows.LINE_FIELDS, ())
            with store_faults(self._path):
                self._lines = {row["id"]: rows.to_line(row) for row in found}
            self._data_version = version
            self.num_changes += 1
        return self._lines

    def find_equal(self, spec_hash: str) -> Line | None:
        """Return the newest line with this hash that neither failed nor was cancelled."""
        query = (
            "SELECT {} FROM line WHERE spec_hash = ? AND state NOT IN ('failed', 'cancelled')"
            " ORDER BY id DESC LIMIT 1"
        )
        with store_faults(self._path):
            found = next(self._rows(query, rows.LINE_FIELDS, (spec_hash,)), None)
            if found is None:
                return None
            return rows.to_line(found)

    def move(self, line: Line, state: LineState, reason: str, **changes: Any) -> Line:
        """Change the state of a line, with its event, and return the line.

        Args:
            line: the line as it is known.
            state: its next state.
            reason: sentence that explains it.
            changes: other fields to change.

        Raises:
            RuntimeError: no such transition, or somebody else moved the line.
        """
        if state not in TRANSITIONS[line.state]:
            raise RuntimeError(f"line {line.id} cannot go from {line.state} to {state}")
        with self.transaction():
            now = time.time()
            values = rows.columns(changes) | {"state": state.value, "reason": reason, "state_since": now}
            names = ", ".join(f"{name} = ?" for name in values)
            # Only from the state that the caller saw: two processes never both make one transition.
            done = self._connection.execute(
                f"UPDATE line SET {names} WHERE id = ? AND state = ?",
                (*values.values(), line.id, line.state.value),
            )
            if done.rowcount != 1:
                raise RuntimeError(f"line {line.id} is no longer {line.state}")
            details = {"from": line.state.value, "to": state.value, "reason": reason}
            self.record("moved", line=line.id, details=details | rows.shown(changes))
            changes |= {"state": state, "reason": reason, "state_since": now}
            self.num_changes += 1
            return self._change(line.id, changes)

    def update(self, number: int, **changes: Any) -> None:
        """Change fields of a line that are no part of its state, such as progress; no event is made."""
        values = rows.columns(changes)
        names = ", ".join(f"{name} = ?" for name in values)
        with self.transaction():
            self._connection.execute(f"UPDATE line SET {names} WHERE id = ?", (*values.values(), number))
            self._change(number, changes)

    def _change(self, number: int, changes: Mapping[str, Any]) -> Line:
        """Bring a known line up to date with its row, and return it."""
        known = self._known_lines()
        known[number] = replace(known[number], **changes)
        return known[number]

    def add_attempt(self, attempt: Attempt) -> None:
        """Add an attempt; a line has each number once."""
        with self.transaction():
            self._insert("attempt", rows.attempt_row(attempt))

    def update_attempt(self, attempt: Attempt) -> None:
        """Replace an attempt."""
        values = rows.attempt_row(attempt)
        names = ", ".join(f"{name} = ?" for name in values)
        with self.transaction():
            self._connection.execute(
                f"UPDATE attempt SET {names} WHERE line = ? AND number = ?",
                (*values.values(), attempt.line, attempt.number),
            )

    def attempts(self, line: int | None = None) -> list[Attempt]:
        """Return the attempts of a line, or all, in their order."""
        query = "SELECT {} FROM attempt WHERE ? IS NULL OR line = ? ORDER BY line, number"
        with store_faults(self._path):
            return [rows.to_attempt(row) for row in self._rows(query, rows.ATTEMPT_FIELDS, (line, line))]

    def last_attempt(self, line: int) -> Attempt | None:
        """Return the newest attempt of a line, None before the first."""
        query = "SELECT {} FROM attempt WHERE line = ? ORDER BY number DESC LIMIT 1"
        with store_faults(self._path):
            found = next(self._rows(query, rows.ATTEMPT_FIELDS, (line,)), None)
            if found is None:
                return None
            return rows.to_attempt(found)

    def present_attempt(self, line: Line) -> Attempt:
        """Return the attempt of a line that may have processes."""
        attempt = self.last_attempt(line.id)
        with store_faults(self._path):
            if attempt is None:
                raise decoding.MismatchError(f"line {line.id}: {line.state} without an attempt")
        return attempt

    def record(self, kind: str, *, line: int | None = None, details: Mapping[str, Any] | None = None) -> None:
        """Add an event to the audit chain."""
        with self.transaction():
            audit.append(self._connection, at=time.time(), kind=kind, line=line, details=dict(details or {}))

    def events(self, *, line: int | None = None, limit: int = 1000) -> list[Event]:
        """Return the newest events, newest first."""
        with store_faults(self._path):
            return list(audit.read(self._connection, line=line, limit=limit))

    def verify_events(self) -> int:
        """Recompute the audit chain and return its length, see `audit.verify`."""
        with store_faults(self._path):
            return audit.verify(self._connection)

    def add_command(self, verb: str, *, line: int | None = None, **arguments: Any) -> int:
        """Leave an order to the process that runs the floor; return its number."""
        with self.transaction():
            values = {"at": time.time(), "verb": verb, "line": line, "arguments": json.dumps(arguments)}
            return self._insert("command", values)

    def pending_commands(self) -> list[Command]:
        """Return the orders that wait to be carried out, oldest first."""
        query = "SELECT id, at, verb, line, arguments FROM command WHERE done_at IS NULL ORDER BY id"
        waiting = self.select(Command, query, name="command")
        with store_faults(self._path):
            for command in waiting:
                hint = ARGUMENTS.get(command.verb, dict[str, Any])
                decoding.decode(command.arguments, hint, name=f"command {command.id}")
        return waiting

    def finish_command(self, command: Command, outcome: str) -> None:
        """Write down the outcome of an order, in the chain of events as well."""
        with self.transaction():
            self._connection.execute(
                "UPDATE command SET done_at = ?, outcome = ? WHERE id = ?", (time.time(), outcome, command.id)
            )
            details = {"verb": command.verb, "arguments": command.arguments, "outcome": outcome}
            self.record("command", line=command.line, details=details)

    def command_outcome(self, number: int) -> str | None:
        """Return the outcome of an order, None while it waits."""
        with store_faults(self._path):
            row = self.execute("SELECT outcome FROM command WHERE id = ?", number).fetchone() or [None]
            return decoding.decode(row[0], str | None, name=f"outcome of command {number}")

    def add_sample(self, sample: Sample) -> None:
        """Add a row to the history of power and work."""
        with self.transaction():
            self._insert("sample", asdict(sample))

    def samples(self, *, since: float = 0.0, spacing_s: int = 1, limit: int = 100_000) -> list[Sample]:
        """Return the history from a time on, in seconds since 1970; the newest rows if there are too many.

        With a spacing, only the rows of every so many seconds.
        """
        names = tuple(field.name for field in fields(Sample))
        query = "SELECT {} FROM sample WHERE at >= ? AND CAST(at AS INTEGER) % ? = 0 ORDER BY at DESC LIMIT ?"
        query = query.format(", ".join(names))
        return self.select(Sample, query, since, spacing_s, limit, name="sample")[::-1]
