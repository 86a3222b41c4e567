"""Orders of users to a running floor, from the table of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from factory.floor.lines import Line, LineState
from factory.floor.records import Command

if TYPE_CHECKING:
    from factory.floor.loop import Floor


def carry_out(floor: Floor, command: Command) -> str:
    """Carry out an order and return a sentence about its outcome."""
    if command.verb == "drain":
        floor.is_draining = True
        return "no more lines start; the floor ends when the running ones have ended"
    if command.verb in ("approve", "operator reset"):
        return floor.watcher.order(command)
    if command.line is None or command.verb not in _ORDERS:
        return f"{command.verb}: no such order"
    line = floor.store.line(command.line)
    if line.state.is_final:
        return f"line {line.id} is already {line.state}"
    return _ORDERS[command.verb](floor, line, command)


def _pause(floor: Floor, line: Line, command: Command) -> str:
    if line.state is LineState.RUNNING:
        floor.supervisor.pause(line, "paused by a user", is_held=True)
    elif line.state in (LineState.QUEUED, LineState.PAUSED):
        floor.store.update(line.id, is_held=True, reason="paused by a user")
    else:
        return f"line {line.id} is {line.state}; pause it when it runs"
    return f"line {line.id} is paused until `resume {line.id}`"


def _resume(floor: Floor, line: Line, command: Command) -> str:
    if line.state is LineState.PAUSED and line.is_held:
        floor.supervisor.resume(line, "resumed by a user")
    elif line.is_held:
        floor.store.update(line.id, is_held=False)
    else:
        return f"line {line.id} is not paused by a user"
    return f"line {line.id} goes on"


def _preempt(floor: Floor, line: Line, command: Command) -> str:
    if not line.state.is_active:
        return f"line {line.id} is {line.state}; it has no process"
    floor.supervisor.end(line, "pre-empted by a user", why="preempt")
    return f"line {line.id} writes a checkpoint and returns to the queue"


def _cancel(floor: Floor, line: Line, command: Command) -> str:
    if line.state.is_active:
        floor.supervisor.end(line, "cancelled by a user", why="cancel")
        return f"line {line.id} writes a checkpoint and ends"
    floor.store.move(line, LineState.CANCELLED, "cancelled by a user")
    return f"line {line.id} is cancelled"


def _set_priority(floor: Floor, line: Line, command: Command) -> str:
    priority = int(command.arguments["priority"])
    floor.store.update(line.id, priority=priority)
    return f"line {line.id} has priority {priority}"


_ORDERS: dict[str, Callable[[Floor, Line, Command], str]] = {
    "pause": _pause,
    "resume": _resume,
    "preempt": _preempt,
    "cancel": _cancel,
    "priority": _set_priority,
}
