"""Decisions in the floor's store. A status is on the disk, with its event, before anything is changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from factory.floor.store import Store
from factory.operator.words import Candidate, Decision, Fault, Finding, Status, Verb

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
        rows = self.store.execute(f"{_DECISION} ORDER BY id DESC LIMIT ?", limit).fetchall()
        return [self._decision(row) for row in reversed(rows)]

    def verified(self, *, by: str) -> list[Decision]:
        """Return the decisions of a decider that have cured or failed, oldest first."""
        rows = self.store.execute(
            f"{_DECISION} WHERE decider = ? AND status IN (?, ?) ORDER BY id", by, Status.DONE, Status.FAILED
        ).fetchall()
        return [self._decision(row) for row in rows]

    def outcomes(self, fault: Fault) -> Outcomes:
        """Return how often each action has cured a fault, and how often it has failed."""
        rows = self.store.execute(
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
        ).fetchall()
        return {Verb(verb): (cured, failed) for verb, cured, failed in rows}

    def _decision(self, row: Sequence[Any]) -> Decision:
        number, at, changed_at, fault, finding, decider, status, content = row
        plain = json.loads(content)
        replaced = None
        if plain.get("instead_of"):
            replaced = _candidate(plain["instead_of"])
        return Decision(
            id=number,
            fault=Fault(fault),
            finding=finding,
            candidate=_candidate(plain["candidate"]),
            by=decider,
            status=Status(status),
            at=at,
            since_s=self._monotonic() - max(0.0, time.time() - changed_at),
            before=plain["before"],
            undo=plain["undo"],
            instead_of=replaced,
        )

    def notes(self, number: int) -> str:
        """Return the reason for the present status of a decision."""
        row = self.store.execute("SELECT note FROM decision WHERE id = ?", number).fetchone()
        return row[0] if row else ""


def _candidate(plain: dict[str, Any]) -> Candidate:
    return Candidate(**plain | {"verb": Verb(plain["verb"])})


def _content(decision: Decision) -> str:
    plain = {
        "candidate": asdict(decision.candidate),
        "before": decision.before,
        "undo": decision.undo,
    }
    if decision.instead_of is not None:
        plain["instead_of"] = asdict(decision.instead_of)
    return json.dumps(plain)
