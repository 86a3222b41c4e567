"""Decisions in the floor's store. A status is on the disk, with its event, before anything is changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from factory.floor.store import Store
from factory.operator.words import Candidate, Decision, Fault, Finding, Status, Verb
from factory.runtime.decoding import Count, Moment

Outcomes = dict[Verb, tuple[int, int]]
"""Numbers of cures and of failures of each action."""
_DECISION = "SELECT id, at, changed_at, fault, finding, decider, status, content FROM decision"
_TABLE = """
CREATE TABLE IF NOT EXISTS decision (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    changed_at REAL NOT NULL,
    fault TEXT NOT NULL,
    finding TEXT NOT NULL,
    line INTEGER,
    verb TEXT NOT NULL,
    decider TEXT NOT NULL,
    status TEXT NOT NULL,
    note TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """Parts of a decision that no query asks for, as JSON."""

    candidate: Candidate
    before: dict[str, float]
    undo: list[int]
    instead_of: Candidate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Columns of `_DECISION`."""

    id: Count
    at: Moment
    changed_at: Moment
    fault: Fault
    finding: str
    decider: str
    status: Status
    content: _Content


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    verb: Verb
    cured: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    note: str


class Journal:
    """Reads and writes decisions."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Use the table of a floor, which is made if it is not there."""
        self.store = store
        self._monotonic = monotonic
        with store.transaction():
            store.execute(_TABLE)

    def record(self, kind: str, *, line: int | None = None, **details: Any) -> None:
        """Add an event of the operator to the audit chain."""
        self.store.record(f"operator {kind}", line=line, details=details)

    def propose(self, finding: Finding, candidate: Candidate, *, by: str) -> Decision:
        """Write down the choice for a finding."""
        now = time.time()
        decision = Decision(
            id=0,
            fault=finding.fault,
            finding=finding.id,
            candidate=candidate,
            by=by,
            status=Status.PROPOSED,
            at=now,
            since_s=self._monotonic(),
        )
        with self.store.transaction():
            done = self.store.execute(
                "INSERT INTO decision (at, changed_at, fault, finding, line, verb, decider, status, note,"
                " content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?)",
                now,
                now,
                finding.fault.value,
                finding.id,
                candidate.line,
                candidate.verb.value,
                by,
                Status.PROPOSED.value,
                _content(decision),
            )
            decision = replace(decision, id=int(done.lastrowid or 0))
            self.record(
                "decision",
                line=candidate.line,
                id=decision.id,
                finding=finding.id,
                evidence=[asdict(one) for one in finding.evidence],
                by=by,
                action=candidate.id,
                predicted_w=candidate.predicted_w,
                predicted_tokens_per_s=candidate.predicted_tokens_per_s,
                cost_tokens=candidate.cost_tokens,
            )
        return decision

    def change(self, decision: Decision, status: Status, note: str, **changes: Any) -> Decision:
        """Write down the next status of a decision, with its reason, and return the decision."""
        # The dwell of a line counts from the last change of any decision about it.
        changed = replace(decision, status=status, since_s=self._monotonic(), **changes)
        with self.store.transaction():
            self.store.execute(
                "UPDATE decision SET changed_at = ?, line = ?, verb = ?, decider = ?, status = ?, note = ?,"
                " content = ? WHERE id = ?",
                time.time(),
                changed.candidate.line,
                changed.candidate.verb.value,
                changed.by,
                status.value,
                note,
                _content(changed),
                decision.id,
            )
            self.record(
                f"{status}",
                line=changed.candidate.line,
                id=decision.id,
                action=changed.candidate.id,
                note=note,
            )
        return changed

    def decisions(self, *, limit: int = 100) -> list[Decision]:
        """Return the newest decisions, oldest first; times are converted to this process's clock."""
        rows = self._rows(f"{_DECISION} ORDER BY id DESC LIMIT ?", limit)
        return [self._decision(row) for row in reversed(rows)]

    def verified(self, *, by: str) -> list[Decision]:
        """Return the decisions of a decider that have cured or failed, oldest first."""
        query = f"{_DECISION} WHERE decider = ? AND status IN (?, ?) ORDER BY id"
        rows = self._rows(query, by, Status.DONE, Status.FAILED)
        return [self._decision(row) for row in rows]

    def outcomes(self, fault: Fault) -> Outcomes:
        """Return how often each action has cured a fault, and how often it has failed."""
        rows = self.store.select(
            _Outcome,
            "SELECT verb, SUM(status = ?), SUM(status = ?) FROM decision"
            " WHERE fault = ? AND status IN (?, ?) AND verb NOT IN (?, ?) GROUP BY verb",
            Status.DONE,
            Status.FAILED,
            fault,
            Status.DONE,
            Status.FAILED,
            # Telling people, and the end of a pause, cure nothing.
            Verb.ALERT,
            Verb.RELEASE,
            name="decision",
        )
        return {row.verb: (row.cured, row.failed) for row in rows}

    def _rows(self, query: str, *values: Any) -> list[_Row]:
        return self.store.select(_Row, query, *values, name="decision")

    def _decision(self, row: _Row) -> Decision:
        return Decision(
            id=row.id,
            fault=row.fault,
            finding=row.finding,
            candidate=row.content.candidate,
            by=row.decider,
            status=row.status,
            at=row.at,
            since_s=self._monotonic() - max(0.0, time.time() - row.changed_at),
            before=row.content.before,
            undo=row.content.undo,
            instead_of=row.content.instead_of,
        )

    def notes(self, number: int) -> str:
        """Return the reason for the present status of a decision."""
        rows = self.store.select(_Note, "SELECT note FROM decision WHERE id = ?", number, name="decision")
        if not rows:
            return ""
        return rows[0].note


def _content(decision: Decision) -> str:
    plain = {
        "candidate": asdict(decision.candidate),
        "before": decision.before,
        "undo": decision.undo,
    }
    if decision.instead_of is not None:
        plain["instead_of"] = asdict(decision.instead_of)
    return json.dumps(plain)
