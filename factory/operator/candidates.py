"""Candidates for a finding: every typed action that the state of the floor allows, with its price."""

from __future__ import annotations

from collections.abc import Iterator

from factory.floor.lines import LineState
from factory.operator.view import LineView, View
from factory.operator.words import Candidate, Fault, Finding, Verb

RESTART_S = 6.0
"""CPU time that an end and a start cost (docs/floor.md)."""
_PAUSABLE = frozenset({LineState.RUNNING})


def candidates(finding: Finding, view: View) -> list[Candidate]:
    """Return the actions for a finding that its state allows, `alert` always among them, in a fixed order."""
    found = [Candidate(verb=Verb.ALERT, line=finding.line)]
    line = view.line(finding.line)
    if line is not None:
        found += _for_line(finding.fault, line, view)
    else:
        found += _for_floor(finding.fault, view)
    return found


def _for_line(fault: Fault, line: LineView, view: View) -> Iterator[Candidate]:
    """Yield what can be done to a line."""
    # An action that the state does not allow is not offered, so no decider can choose it.
    if line.state is LineState.QUEUED:
        # A cause that comes back is not helped by haste.
        if line.retry_in_s > 0.0 and not line.is_held and line.failures < 2:
            yield _candidate(Verb.RETRY_NOW, line, watts=line.power_w, tokens_per_s=line.tokens_per_s)
        yield _candidate(Verb.CANCEL, line)
    if line.state is LineState.RUNNING:
        yield from _for_running(fault, line, view)
    if line.state is LineState.STARTING:
        yield _candidate(Verb.RESTART, line, cost_tokens=_restart_cost(line))


def _for_running(fault: Fault, line: LineView, view: View) -> Iterator[Candidate]:
    """Yield what can be done to a line that runs, cheapest first."""
    gain = max(0.0, line.tokens_per_s - _speed(line))
    if line.is_stopped:
        yield _candidate(Verb.CONTINUE, line, watts=line.power_w, tokens_per_s=gain)
    if line.better_cpus(view.host) and not line.is_stopped:
        yield _candidate(Verb.REBIND, line, tokens_per_s=gain)
    if not line.is_stopped and fault is not Fault.HANG:
        cost = _restart_cost(line)
        yield _candidate(Verb.CHECKPOINT_RESTART, line, tokens_per_s=gain, cost_tokens=cost)
    # Killed at once: the work since the last checkpoint is lost as well.
    lost = max(0, line.steps - line.checkpoint.steps)
    yield _candidate(Verb.RESTART, line, tokens_per_s=gain, cost_tokens=_restart_cost(line) + lost)
    yield _candidate(Verb.HOLD, line, watts=-line.power_w, tokens_per_s=-_speed(line))
    yield _candidate(Verb.CANCEL, line, watts=-line.power_w, tokens_per_s=-_speed(line))


def _for_floor(fault: Fault, view: View) -> Iterator[Candidate]:
    """Yield what can be done for the whole floor."""
    if fault is Fault.DISK and view.host.prunable_bytes > 0.0:
        yield Candidate(verb=Verb.PRUNE, line=None)
    running = [line for line in view.lines if line.state in _PAUSABLE and line.flex > 0]
    # A paused line loses its time for certain; only one that finds no room for a checkpoint loses more.
    is_disk_full = fault is Fault.DISK and view.host.disk_free_bytes < _needed_bytes(view)
    if fault in (Fault.CONTENTION, Fault.MEMORY, Fault.OVER_BUDGET) or is_disk_full:
        for line in sorted(running, key=_yield_order)[:3]:
            yield _candidate(Verb.HOLD, line, watts=-line.power_w, tokens_per_s=-_speed(line))
        if fault is Fault.MEMORY:
            # A paused line keeps its memory; one that restarts waits until it fits.
            for line in sorted(running, key=_yield_order)[:3]:
                yield _candidate(Verb.CHECKPOINT_RESTART, line, cost_tokens=_restart_cost(line))


def _needed_bytes(view: View) -> float:
    """Return the space that all lines need for their next checkpoint, with as much in reserve."""
    return 2.0 * sum(line.checkpoint.size_bytes for line in view.lines if line.state in _PAUSABLE)


def _yield_order(line: LineView) -> tuple[float, ...]:
    """Return a key that sorts lines: flexible, unimportant and new ones go first."""
    return (-line.flex, line.priority, -line.id)


def _candidate(
    verb: Verb, line: LineView, *, watts: float = 0.0, tokens_per_s: float = 0.0, cost_tokens: float = 0.0
) -> Candidate:
    return Candidate(
        verb=verb,
        line=line.id,
        predicted_w=watts,
        predicted_tokens_per_s=tokens_per_s,
        cost_tokens=cost_tokens,
    )


def _speed(line: LineView) -> float:
    """Return the present speed of a line [tokens/s]; 0 if it is silent."""
    if not line.rows or line.silence_s > 30.0 or line.is_stopped:
        return 0.0
    return line.rows[-1].tokens_per_s


def _restart_cost(line: LineView) -> float:
    return RESTART_S * line.tokens_per_s
