"""Findings on a terminal as panels, in a log as plain lines."""

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
    "actuate": "Actuate (looked up, nothing is set)",
    "tracking": "Tracking",
    "self-test": "Self-test: what the figures say",
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
        for section, group in groupby(findings, key=lambda finding: finding.section):
            if self._is_terminal:
                self._panel(TITLES[section], _grid(list(group)))
            else:
                self._console.print(f"\n{TITLES[section]}", markup=False)
                for finding in group:
                    self._lines(finding)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        """Print rows of figures and, below, what is to be known about them."""
        keys = [key for key in rows[0] if key in _TABLE_HEADS]
        table = Table(box=None, pad_edge=False)
        for key in keys:
            table.add_column(
                _TABLE_HEADS[key], justify="left" if key == keys[0] else "right", overflow="fold"
            )
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
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"
