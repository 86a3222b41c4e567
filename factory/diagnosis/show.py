"""Findings as panels on a terminal and as plain lines in a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from factory.diagnosis.finding import Finding, Status

_STYLES = {Status.OK: "green", Status.LIMITED: "yellow", Status.MISSING: "red"}
_WIDTH = 100
TITLES = {
    "machine": "Machine",
    "simulate": "Simulate",
    "draw": "Draw",
    "measure": "Measure energy",
    "actuate": "Actuate (nothing is changed)",
    "tracking": "Tracking",
    "self-test": "Self-test of the energy sources",
}
_TABLE_HEADS = {
    "part": "part",
    "seconds": "s",
    "joules": "J",
    "watts": "W",
    "cpu_s": "CPU s",
    "tool": "tool",
    "cpu_w": "CPU W",
    "gpu_w": "GPU W",
    "dram_w": "DRAM W",
    "total_j": "total J",
}


class Page:
    """Prints findings and tables; a terminal gets panels of at most 100 columns, a log whole lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_terminal = console.is_terminal

    def findings(self, findings: Iterable[Finding]) -> None:
        """Print findings section by section."""
        # Findings of a section come one after the other, as `groupby` requires.
        for section, group in groupby(findings, key=lambda finding: finding.section):
            if self._is_terminal:
                self._panel(TITLES[section], _grid(list(group)))
            else:
                self._console.print(f"\n{TITLES[section]}", markup=False)
                for finding in group:
                    self._lines(finding)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        """Print rows of values and the notes below them."""
        # Rows may hold more than is shown, such as lists of reasons.
        keys = [key for key in rows[0] if key in _TABLE_HEADS]
        table = Table(box=None, pad_edge=False)
        table.add_column(_TABLE_HEADS[keys[0]], overflow="fold")
        for key in keys[1:]:
            table.add_column(_TABLE_HEADS[key], justify="right", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row[key]) for key in keys))
        if self._is_terminal:
            self._panel(title, Group(table, Text(), *(Text(note) for note in notes)))
        else:
            self._console.print(f"\n{title}", markup=False)
            self._console.print(table)
            for note in notes:
                self._console.print(note, soft_wrap=True, markup=False)

    def _panel(self, title: str, content: RenderableType) -> None:
        width = min(_WIDTH, self._console.width)
        self._console.print(Panel(content, title=title, title_align="left", border_style="cyan", width=width))

    def _lines(self, finding: Finding) -> None:
        # Soft wrap: a line of a log stays whole, whatever the width. No markup: texts may hold brackets.
        self._console.print(
            f"  {finding.status:<8} {finding.name}: {finding.text}", soft_wrap=True, markup=False
        )
        if finding.remedy:
            self._console.print(f"           -> {finding.remedy}", soft_wrap=True, markup=False)


def _grid(findings: Sequence[Finding]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(max_width=22)
    grid.add_column()
    for finding in findings:
        words = Text(finding.text)
        if finding.remedy:
            words.append(f"\n-> {finding.remedy}", style="cyan")
        grid.add_row(
            Text(finding.status, style=_STYLES[finding.status]), Text(finding.name, style="bold"), words
        )
    return grid


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.4g}"
