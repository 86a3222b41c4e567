"""The operator's hands: each action on a floor, the way back, and the effect that it must have."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from factory.floor import attempt_files
from factory.floor.lines import Line, LineState
from factory.operator import processes
from factory.operator.observe import Observer, prunable
from factory.operator.view import LineView, View
from factory.operator.words import Candidate, Decision, Verb

if TYPE_CHECKING:
    from factory.floor.loop import Floor

_SLOW = frozenset({Verb.CHECKPOINT_RESTART, Verb.CANCEL})
"""Actions that wait for a checkpoint."""


class FloorPort:
    """A floor that runs, as the operator observes and changes it."""

    def __init__(self, floor: Floor) -> None:
        """Use a floor; only its own process may."""
        self._floor = floor
        self._observer = Observer(floor)
        self._view = View(now_s=0.0)

    def observe(self) -> View:
        """Return the floor as it is now."""
        self._view = self._observer.observe()
        return self._view

    def undo_state(self, candidate: Candidate) -> list[int]:
        """Return the state that an action overwrites and its undoing restores; empty if there is none."""
        if candidate.verb is not Verb.REBIND:
            return []
        pids = self._pids(self._line(candidate))
        return processes.affinity(pids[0]) if pids else []

    def act(self, decision: Decision) -> None:
        """Carry out a decision.

        Raises:
            OSError, RuntimeError, ValueError: it could not be done.
        """
        _ACTS[decision.candidate.verb](self, decision)

    def undo(self, decision: Decision) -> str:
        """Put back what can be put back, and return a note about it."""
        verb = decision.candidate.verb
        if verb is Verb.REBIND and decision.undo:
            processes.bind(self._pids(self._line(decision.candidate)), decision.undo)
            return "its CPUs are restored"
        if verb is Verb.HOLD:
            line = self._line(decision.candidate)
            if line.state is LineState.PAUSED and line.is_held:
                self._floor.supervisor.resume(line, "resumed: the pause did not help")
                return "the line is resumed"
        return "there is nothing to undo"

    def _retry_now(self, decision: Decision) -> None:
        line = self._line(decision.candidate)
        self._floor.store.update(line.id, not_before=0.0, reason="the operator starts it without delay")
        self._floor.look_at_queue()

    def _continue(self, decision: Decision) -> None:
        handle = self._floor.supervisor.handle(self._line(decision.candidate))
        if handle is not None:
            self._floor.engine.signal(handle, signal.SIGCONT)

    def _restart(self, decision: Decision) -> None:
        attempt = self._floor.store.last_attempt(self._line(decision.candidate).id)
        if attempt is None or attempt.handle is None:
            raise RuntimeError("its process is not known")
        # Whoever finds the process ended finds the reason as well.
        attempt_files.write_reason(Path(attempt.folder), "restart")
        self._floor.engine.kill(attempt.handle)

    def _checkpoint_restart(self, decision: Decision) -> None:
        self._floor.supervisor.end(self._line(decision.candidate), _reason(decision), why="preempt")

    def _rebind(self, decision: Decision) -> None:
        line = self._line(decision.candidate)
        seen = self._view.line(line.id)
        # Chosen anew: other lines may have moved since the decision.
        cpus: list[int] = []
        if seen is not None:
            cpus = seen.better_cpus(self._view.host)
        if not cpus:
            raise RuntimeError("no other CPU is idler any more")
        processes.bind(self._pids(line), cpus)
        self._floor.supervisor.note_cpus(line, cpus)

    def _hold(self, decision: Decision) -> None:
        self._floor.supervisor.pause(self._line(decision.candidate), _reason(decision), is_held=True)

    def _release(self, decision: Decision) -> None:
        line = self._line(decision.candidate)
        if line.state is LineState.PAUSED and line.is_held:
            self._floor.supervisor.resume(line, _reason(decision))

    def _prune(self, decision: Decision) -> None:
        # A line may have gone on since the last look: then `last` names another checkpoint.
        for folder in prunable(self._floor.store.lines((LineState.FINISHED,))):
            shutil.rmtree(folder, ignore_errors=True)
        self._observer.look_again()

    def _cancel(self, decision: Decision) -> None:
        line = self._line(decision.candidate)
        if line.state.is_active:
            self._floor.supervisor.end(line, f"cancelled: {_reason(decision)}", why="cancel")
        else:
            self._floor.store.move(line, LineState.CANCELLED, f"cancelled: {_reason(decision)}")

    def _alert(self, decision: Decision) -> None:
        """Nothing is changed; the decision itself is what people see."""

    def _line(self, candidate: Candidate) -> Line:
        assert candidate.line is not None
        return self._floor.store.line(candidate.line)

    def _pids(self, line: Line) -> tuple[int, ...]:
        handle = self._floor.supervisor.handle(line)
        if handle is None:
            return ()
        return processes.look(handle.pid).pids


_ACTS: dict[Verb, Callable[[FloorPort, Decision], None]] = {
    Verb.ALERT: FloorPort._alert,
    Verb.RETRY_NOW: FloorPort._retry_now,
    Verb.CONTINUE: FloorPort._continue,
    Verb.RESTART: FloorPort._restart,
    Verb.CHECKPOINT_RESTART: FloorPort._checkpoint_restart,
    Verb.REBIND: FloorPort._rebind,
    Verb.HOLD: FloorPort._hold,
    Verb.RELEASE: FloorPort._release,
    Verb.PRUNE: FloorPort._prune,
    Verb.CANCEL: FloorPort._cancel,
}


def before(candidate: Candidate, view: View) -> dict[str, float]:
    """Return the numbers against which the effect of an action is read."""
    line = view.line(candidate.line)
    if line is None:
        return {"prunable_bytes": view.host.prunable_bytes}
    return {"attempts": line.attempts, "steps": line.steps}


def has_effect(decision: Decision, view: View) -> bool:
    """Return whether the floor shows the change that an action makes."""
    verb = decision.candidate.verb
    if verb is Verb.ALERT:
        return True
    if verb is Verb.PRUNE:
        return view.host.prunable_bytes < decision.before["prunable_bytes"]
    line = view.line(decision.candidate.line)
    if line is None:
        # Lines that have ended are not in the view.
        return verb in (Verb.CANCEL, Verb.CHECKPOINT_RESTART, Verb.RESTART, Verb.RETRY_NOW)
    return _EFFECTS[verb](line, decision)


_EFFECTS: dict[Verb, Callable[[LineView, Decision], bool]] = {
    Verb.RETRY_NOW: lambda line, _: line.retry_in_s <= 0.0 or line.state is not LineState.QUEUED,
    Verb.CONTINUE: lambda line, _: not line.is_stopped,
    Verb.RESTART: lambda line, decision: _has_left(line, decision),
    Verb.CHECKPOINT_RESTART: lambda line, decision: _has_left(line, decision),
    Verb.REBIND: lambda line, decision: list(line.cpus) != decision.undo,
    Verb.HOLD: lambda line, _: line.state is LineState.PAUSED and line.is_held,
    Verb.RELEASE: lambda line, _: not line.is_held,
    Verb.CANCEL: lambda line, _: line.state.is_final,
}


def effect_s(decision: Decision, verify_s: float) -> float:
    """Return the longest time until the effect of an action is seen [s]."""
    if decision.candidate.verb in _SLOW:
        return 2.0 * verify_s
    return verify_s


def _has_left(line: LineView, decision: Decision) -> bool:
    """Return whether the attempt has ended that an action should end."""
    return line.attempts > decision.before["attempts"] or not line.state.is_active


def _reason(decision: Decision) -> str:
    return f"decision {decision.id} of the operator ({decision.fault})"
