"""The loop of the operator: observe, orient, decide, act, verify; once a tick of the floor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from factory.operator import guard
from factory.operator.candidates import candidates
from factory.operator.config import OperatorConfig
from factory.operator.deciders.base import Decider, NoRanker, Ranker
from factory.operator.hands import before, effect_s, has_effect
from factory.operator.journal import Journal
from factory.operator.orient import Orientation
from factory.operator.own_cost import OwnCost
from factory.operator.stored import FINDINGS, STATE
from factory.operator.view import View
from factory.operator.words import Candidate, Decision, Finding, Mode, Severity, Status, Verb

HOLD_S = 300.0
"""Time after the end of a fault for which a line that was held for it stays held."""


class Port(Protocol):
    """A floor that the operator observes and changes."""

    def observe(self) -> View:
        """Return the floor as it is now."""

    def undo_state(self, candidate: Candidate) -> list[int]:
        """Return the state that an action will overwrite."""

    def act(self, decision: Decision) -> None:
        """Carry out a decision."""

    def undo(self, decision: Decision) -> str:
        """Put back what can be put back, and return a note about it."""


class Operator:
    """Runs a floor, as far as its mode allows."""

    def __init__(
        self,
        port: Port,
        journal: Journal,
        decider: Decider,
        config: OperatorConfig,
        mode: Mode,
        *,
        ranker: Ranker | None = None,
    ) -> None:
        """Continue where an earlier operator of this floor ended."""
        self._port = port
        self._journal = journal
        self._decider = decider
        self._config = config
        self._mode = mode
        self._ranker = ranker or NoRanker()
        self._orientation = Orientation(config.detect)
        self._history = journal.decisions()
        state = journal.store.get(STATE)
        self._failed_in_a_row = int(state.get("failed_in_a_row", 0))
        self._own_cost = OwnCost(journal.store)
        self._waiting: dict[int, str] = {}

    @property
    def findings(self) -> list[Finding]:
        """Return the open findings."""
        return self._orientation.open

    @property
    def decisions(self) -> Sequence[Decision]:
        """Return what was decided, oldest first."""
        return self._history

    @property
    def cost(self) -> dict[str, float]:
        """Return ticks, CPU time and longest tick of the operator itself."""
        own = self._own_cost
        return {"ticks": float(own.ticks), "cpu_s": own.cpu_s, "longest_tick_s": own.longest_s}

    @property
    def is_broken(self) -> bool:
        """True if the circuit breaker is open."""
        return self._failed_in_a_row >= self._config.breaker

    def tick(self) -> View:
        """Observe, orient, decide, act and verify once; return the floor as it was seen."""
        started_s = time.thread_time()
        try:
            return self._tick()
        finally:
            # A tick that fails has cost its time, too.
            self._own_cost.add(time.thread_time() - started_s, time.monotonic())

    def _tick(self) -> View:
        view = self._port.observe()
        opened, closed = self._orientation.tick(view)
        for finding in opened:
            evidence = [asdict(one) for one in finding.evidence]
            self._journal.record(
                "finding", line=finding.line, id=finding.id, severity=finding.severity.name, evidence=evidence
            )
        for finding in closed:
            lasted_s = view.now_s - finding.since_s
            self._journal.record("cleared", line=finding.line, id=finding.id, lasted_s=round(lasted_s, 3))
        if opened or closed:
            self._show(view)
        # Open decisions before new ones: what they have changed is in this view, and the guard counts them.
        if self._mode is not Mode.OBSERVE:
            self._follow(view)
            self._decide(view)
            self._release(view)
        return view

    def approve(self, number: int) -> str:
        """Let a proposal be carried out, and return a sentence about it."""
        for decision in self._history:
            if decision.id == number and decision.status is Status.PROPOSED:
                self._change(decision, Status.APPROVED, "approved by a user")
                return f"decision {number}: {decision.candidate.id} is carried out once the guard permits it"
        return f"decision {number}: not among the proposals; `operator` lists them"

    def reset(self) -> str:
        """Close the circuit breaker, and return a sentence about it."""
        self._failed_in_a_row = 0
        self._keep()
        self._journal.record("reset")
        return "the circuit breaker is closed: the operator acts again"

    def close(self) -> None:
        """Write down what the operator itself has used."""
        self._ranker.close()
        self._own_cost.write(time.monotonic())

    def _follow(self, view: View) -> None:
        """Bring every open decision one step further."""
        present = {finding.id for finding in self.findings}
        for decision in list(self._history):
            if decision.status in (Status.PROPOSED, Status.APPROVED):
                self._advance_choice(decision, view, is_present=decision.finding in present)
            elif decision.status is Status.ACTING:
                self._read_back(decision, view)
            elif decision.status is Status.EFFECTIVE:
                self._await_cure(decision, view, is_present=decision.finding in present)

    def _advance_choice(self, decision: Decision, view: View, *, is_present: bool) -> None:
        """Carry out a choice if it may be, drop it if it has no purpose any more."""
        if not is_present and decision.candidate.verb is not Verb.RELEASE:
            self._change(decision, Status.EXPIRED, "the fault is gone")
            return
        age_s = view.now_s - decision.since_s
        if decision.status is Status.PROPOSED and age_s > self._config.expire_s:
            self._change(decision, Status.EXPIRED, f"not approved within {age_s:.0f} s")
            return
        if decision.status is Status.APPROVED:
            # What a person has approved is no longer for others to choose.
            self._try(decision, view)
            return
        advised = self._hear(decision)
        if advised is None:
            return
        if advised.candidate.verb is Verb.ALERT:
            # Telling people needs no one's leave.
            self._change(advised, Status.DONE, "reported")
        elif guard.is_free(advised.candidate, self._mode, self._config):
            self._try(advised, view)

    def _hear(self, decision: Decision) -> Decision | None:
        """Return a decision as its ranker leaves it; None while the ranker still thinks."""
        advice = self._ranker.answer(decision)
        if advice is None:
            return None
        if advice.note:
            self._journal.record(
                "advice",
                line=decision.candidate.line,
                id=decision.id,
                by=self._ranker.name,
                note=advice.note,
                **advice.numbers,
            )
        if advice.candidate is None:
            return decision
        return self._change(
            decision,
            decision.status,
            advice.note,
            candidate=advice.candidate,
            by=self._ranker.name,
            instead_of=decision.candidate,
        )

    def _try(self, decision: Decision, view: View) -> None:
        """Carry out a decision unless the guard has an objection."""
        # Between choice and act the floor has moved on: the action must still be among those that it allows.
        finding = next((one for one in self.findings if one.id == decision.finding), None)
        if finding is not None and decision.candidate.id not in {one.id for one in candidates(finding, view)}:
            self._change(decision, Status.EXPIRED, "the state of the floor no longer allows it")
            return
        reason = guard.obstacle(
            decision.candidate, view, self._history, self._config, is_broken=self.is_broken
        )
        if reason:
            # A countdown is one obstacle, not a new one in each tick.
            kind = reason.rpartition(" in ")[0] or reason.rpartition(" was ")[0] or reason
            if self._waiting.get(decision.id) != kind:
                self._waiting[decision.id] = kind
                self._journal.record("waits", line=decision.candidate.line, id=decision.id, reason=reason)
            return
        # On the disk before anything is changed, so that an operator that dies here knows what it was doing.
        decision = self._change(
            decision,
            Status.ACTING,
            "",
            before=before(decision.candidate, view),
            undo=self._port.undo_state(decision.candidate),
        )
        try:
            self._port.act(decision)
        except (OSError, RuntimeError, ValueError) as error:
            self._fail(decision, f"the action failed: {error}")

    def _read_back(self, decision: Decision, view: View) -> None:
        """See whether the floor shows the change; undo it if it does not in time."""
        if has_effect(decision, view):
            # An alert is done when it is said.
            status = Status.EFFECTIVE
            if decision.candidate.verb in (Verb.ALERT, Verb.RELEASE):
                status = Status.DONE
            self._change(decision, status, f"seen after {view.now_s - decision.since_s:.1f} s")
            return
        limit_s = effect_s(decision, self._config.verify_s)
        if view.now_s - decision.since_s > limit_s:
            self._fail(decision, f"no effect within {limit_s:.0f} s; {self._undone(decision)}")

    def _await_cure(self, decision: Decision, view: View, *, is_present: bool) -> None:
        """See whether the fault goes away; undo the action if it does not in time."""
        if not is_present:
            self._failed_in_a_row = 0
            self._keep()
            self._change(decision, Status.DONE, f"gone after {view.now_s - decision.since_s:.1f} s")
        elif view.now_s - decision.since_s > self._config.cure_s:
            note = f"the fault is still there after {self._config.cure_s:.0f} s; {self._undone(decision)}"
            self._fail(decision, note)

    def _undone(self, decision: Decision) -> str:
        try:
            return self._port.undo(decision)
        except (OSError, RuntimeError, ValueError) as error:
            return f"it could not be undone: {error}"

    def _fail(self, decision: Decision, note: str) -> None:
        self._change(decision, Status.FAILED, note)
        self._failed_in_a_row += 1
        self._keep()
        # Only once, as it opens: actions that were under way may still fail.
        if self._failed_in_a_row == self._config.breaker:
            self._journal.record("breaker opened", failed_in_a_row=self._failed_in_a_row)

    def _decide(self, view: View) -> None:
        """Propose an action for every finding that has none."""
        for finding in self.findings:
            mine = [one for one in self._history if one.finding == finding.id]
            if any(one.status.is_open for one in mine):
                continue
            choices = [
                candidate
                for candidate in candidates(finding, view)
                if not guard.is_unsafe(candidate, finding.fault, view.now_s, self._history, self._config)
            ]
            chosen = self._decider.choose(finding, choices, view)
            # No candidate is left, or the rule has none; the finding stays visible.
            if chosen is None:
                continue
            if self._was_left_to_people(finding, chosen, mine):
                continue
            decision = self._journal.propose(finding, chosen, by=self._decider.name)
            self._history.append(decision)
            if chosen.verb is not Verb.ALERT:
                self._ranker.ask(decision, finding, self._alternatives(chosen, choices, view), view)
            self._advance_choice(decision, view, is_present=True)

    def _alternatives(self, chosen: Candidate, choices: Sequence[Candidate], view: View) -> list[Candidate]:
        """Return the choices that a ranker may put in the place of one, itself among them."""
        return guard.alternatives(
            chosen, choices, view, self._history, self._config, mode=self._mode, is_broken=self.is_broken
        )

    def _was_left_to_people(self, finding: Finding, chosen: Candidate, mine: Sequence[Decision]) -> bool:
        """Return whether people know of a finding, and a choice was possible already when they were told."""
        alerts = [
            one
            for one in mine
            if one.candidate.verb is Verb.ALERT
            and one.status is Status.DONE
            and one.since_s >= finding.since_s - 1.0
        ]
        # A model may have preferred the alert to the rule's choice.
        refused = {one.instead_of.id for one in alerts if one.instead_of is not None}
        return bool(alerts) and (chosen.verb is Verb.ALERT or chosen.id in refused)

    def _release(self, view: View) -> None:
        """Resume lines that were held for a fault, once it has been gone for a while."""
        for decision in self._history:
            is_over = decision.candidate.verb is Verb.HOLD and decision.status is Status.DONE
            if not is_over or view.now_s - decision.since_s < HOLD_S:
                continue
            line = view.line(decision.candidate.line)
            is_later = any(
                one.candidate.verb is Verb.RELEASE and one.candidate.line == decision.candidate.line
                for one in self._history
                if one.id > decision.id
            )
            if line is None or not line.is_held or is_later:
                continue
            release = Candidate(verb=Verb.RELEASE, line=line.id, predicted_w=line.power_w)
            finding = Finding(fault=decision.fault, line=line.id, severity=Severity.INFO, evidence=())
            made = self._journal.propose(finding, release, by=self._decider.name)
            self._history.append(made)
            self._try(self._change(made, Status.APPROVED, "the fault has been gone for long"), view)

    def _change(self, decision: Decision, status: Status, note: str, **changes: Any) -> Decision:
        """Write down the next status of a decision and remember it."""
        changed = self._journal.change(decision, status, note, **changes)
        self._history = [changed if one.id == changed.id else one for one in self._history][-1000:]
        return changed

    def _keep(self) -> None:
        self._journal.store.put(STATE, {"failed_in_a_row": self._failed_in_a_row})

    def _show(self, view: View) -> None:
        """Leave the open findings where `status` finds them."""
        plain = [
            {
                "id": finding.id,
                "severity": finding.severity.name.lower(),
                "since": time.time() - (view.now_s - finding.since_s),
                "evidence": [asdict(one) for one in finding.evidence],
            }
            for finding in self.findings
        ]
        self._journal.store.put(FINDINGS, plain)
