"""The score on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO, cast

from rich.console import Console
from rich.table import Table

from factory.floor.status_view import plain_text
from factory.operator.scoring.config import ORACLE
from factory.reporting.stream import unescaped_stdout

COLUMNS = (
    "fault",
    "decider",
    "found",
    "latency s",
    "repair s",
    "tokens lost",
    "over oracle",
    "wrong",
    "other alarms",
    "W s over",
    "J wasted",
    "actions/h",
)
TITLES = {
    "live": "live: faults injected into real lines; wall-clock seconds of a machine that others may use too",
    "replayed": "replayed: recorded ticks of these lines on a model floor, under an injected clock",
}


def show(rows: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> None:
    """Print a table for each kind of trial, and the totals below."""
    console = Console(file=cast(TextIO, unescaped_stdout()), width=150)
    for kind, title in TITLES.items():
        chosen = [row for row in rows if row["kind"] == kind]
        if not chosen:
            continue
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
        for row in chosen:
            table.add_row(*map(plain_text, cells(row)))
        console.print(table)
    for total in totals:
        console.print(plain_text(sentence(total)), highlight=False, soft_wrap=True)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row as texts."""
    found = f"{row['found']}/{row['trials']}"
    if row["decider"] == ORACLE:
        # It is told.
        found = "-"
    return [
        row["case"],
        row["decider"],
        found,
        _number(row["latency_s"], 1),
        _number(row["repair_s"], 1),
        _share(row["lost_tokens"], row["usual_tokens"]),
        _share(row["lost_against_oracle"], row["usual_tokens"]),
        str(row["wrong"]),
        str(row["other_alarms"]),
        _number(row["over_budget_ws"], 0),
        _number(row["wasted_j"], 0),
        _number(row["actions_per_hour"], 1),
    ]


def sentence(total: Mapping[str, Any]) -> str:
    """Return the totals of a decider in a line."""
    recall = f"recall {total['recall']:.3f} of {total['trials']} faults"
    if total["decider"] == ORACLE:
        recall = f"{total['trials']} faults"
    text = (
        f"{total['kind']} {total['decider']}: {recall},"
        f" the rule's actions in {total['as_rule']}, {total['wrong']} wrong actions,"
        f" {total['losses']} of them lost finished work,"
        f" {total['lost_tokens']:.4g} tokens lost, {total['wasted_j']:.4g} J wasted;"
        f" operator {1e3 * total['tick_cpu_s']:.2f} ms of CPU a tick,"
        f" {1e3 * total['longest_tick_s']:.0f} ms at most"
    )
    alarms = total["false_alarms"]
    if alarms is not None:
        text += (
            f"; {alarms['per_line_day']:.2f} false alarms a line-day"
            f" [{alarms['lo']:.2f}, {alarms['hi']:.2f}] in {total['line_days']:.1f} line-days"
        )
    return text


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}"


def _share(value: float | None, whole: float) -> str:
    """Return a part of the tokens that an undisturbed floor would have made."""
    if value is None or whole <= 0.0:
        return "-"
    return f"{100.0 * value / whole:.0f} %"
