"""The state of a floor for people and programs, also while no process runs it."""

from __future__ import annotations

import time
from typing import Any, Literal, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from factory.floor import floor_lock
from factory.floor.floor_books import BOOKS
from factory.floor.lines import Line, LineState
from factory.floor.records import RUNNING
from factory.floor.store import Store
from factory.reporting.stream import unescaped_stdout
from factory.runtime.stored_files import visible

_BAR_CELLS = 30


def plain(store: Store) -> dict[str, Any]:
    """Return the state of floor and lines as plain values."""
    known = store.get(RUNNING)
    books = store.get(BOOKS)
    # The last values of a process that has ended are out of date.
    live: dict[str, Any] = {}
    state = "stopped"
    if floor_lock.is_held(store.root):
        live = known
        state = "running"
    if live.get("is_draining"):
        state = "draining"
    floor = {
        "state": state,
        "budget_w": live.get("budget_w"),
        "budget": known.get("budget", "no limit"),
        "power_w": live.get("power_w", 0.0),
        "power_upper_w": live.get("power_upper_w", 0.0),
        "cores_busy": live.get("cores_busy", 0.0),
        "tier": known.get("tier", "none"),
        "joules": books.get("node_j", 0.0),
        "unattributed_j": books.get("rest_j", 0.0),
    }
    return {"floor": floor, "lines": [_plain_line(line) for line in store.lines()]}


def _plain_line(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "name": line.name,
        "task": line.task,
        "state": line.state.value,
        "reason": line.reason,
        "exit_class": line.exit_class.value if line.exit_class else None,
        "attempts": line.attempts,
        "run_dir": line.run_dir,
        "progress": line.progress,
        "tokens": line.tokens,
        "tokens_per_s": line.tokens_per_s if line.state is LineState.RUNNING else 0.0,
        "joules": line.joules,
        "waste_j": line.waste_j,
        "power_w": line.power_w if line.state.is_active else 0.0,
        "priority": line.priority,
        "flex": line.flex,
        "owner": line.owner,
    }


def explain(store: Store, line: Line) -> str:
    """Return a sentence about the constraint or the outcome of a line."""
    text = f"line {line.id} is {line.state}: {line.reason}"
    if not line.state.is_final and not floor_lock.is_held(store.root):
        text += "; no process runs the floor, start one with `python -m factory.floor run`"
    return visible(text)


def show(store: Store) -> None:
    """Print the state as a table."""
    terminal().print(_render(store))


def watch(store: Store) -> None:
    """Show the state until Ctrl-C."""
    with Live(_render(store), console=terminal(), refresh_per_second=1, screen=False) as live:
        while True:
            time.sleep(1.0)
            live.update(_render(store))


def terminal() -> Console:
    """Return a console that may draw; the texts that it shows have to be escaped before."""
    return Console(file=cast(TextIO, unescaped_stdout()))


def _render(store: Store) -> Table:
    state = plain(store)
    floor = state["floor"]
    table = Table(title=plain_text(_title(floor)), title_justify="left", box=None, pad_edge=False)
    for column in ("ID", "name", "state", "progress", "tokens/s", "W", "J/token", "ETA", "reason"):
        justify: Literal["left", "right"] = "right"
        if column in ("name", "state", "reason"):
            justify = "left"
        table.add_column(column, justify=justify)
    for line in state["lines"]:
        table.add_row(
            str(line["id"]),
            plain_text(line["name"]),
            line["state"],
            f"{100 * line['progress']:.0f} %",
            f"{line['tokens_per_s']:.0f}",
            f"{line['power_w']:.1f}",
            _joules_per_token(line),
            _eta(line),
            plain_text(line["reason"]),
        )
    return table


def plain_text(text: str) -> Text:
    """Return a text for a table in which brackets are no markup, and control characters are spelled out."""
    return Text(visible(text))


def _title(floor: dict[str, Any]) -> str:
    power = f"{floor['power_w']:.1f} W ({floor['tier']}, at most {floor['power_upper_w']:.1f} W)"
    text = f"floor {floor['state']}  {power} of {floor['budget']}"
    if floor["budget_w"]:
        share = min(1.0, floor["power_upper_w"] / floor["budget_w"])
        filled = round(share * _BAR_CELLS)
        text += f"  [{'#' * filled}{'.' * (_BAR_CELLS - filled)}]"
    return text


def _joules_per_token(line: dict[str, Any]) -> str:
    if not line["tokens"]:
        return ""
    return f"{line['joules'] / line['tokens']:.3g}"


def _eta(line: dict[str, Any]) -> str:
    if line["state"] != "running" or not line["tokens_per_s"] or not line["progress"]:
        return ""
    # tokens / progress is the total, as far as tokens grow in step with environment steps.
    left = line["tokens"] / line["progress"] - line["tokens"]
    return f"{left / line['tokens_per_s']:.0f} s"
