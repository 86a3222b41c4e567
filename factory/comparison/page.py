"""The page of a comparison: one HTML file in the look of a run's report, which needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from factory.comparison import charts
from factory.comparison.result import Comparison
from factory.comparison.table import Cell, rows
from factory.reporting.formatting import format_number
from factory.reporting.html import folded, write_html
from factory.reporting.report import TIER_SENTENCES

_STYLE = """
.wide { overflow-x: auto; }
.wide table { width: 100%; }
thead th { font-weight: 600; vertical-align: bottom; }
.wide td, .wide th { min-width: 7rem; overflow-wrap: normal; padding: .45rem 1.4rem .45rem 0; }
.many td, .many th { min-width: 0; padding-right: .9rem; font-size: .8rem; }
.many tbody th { overflow-wrap: anywhere; }
td .note { color: var(--muted); font-size: .8rem; }
tbody th { color: var(--muted); }
"""
HOW_TO_READ = (
    "Figures are means over seeds with a 95 % bootstrap interval of the mean, widened for the few seeds "
    "there are. "
    "A gauge errs alike in every seed, so its error does not shrink with their number: joules carry the "
    "interval over "
    "seeds from the gauge's lower bound to its upper one. "
    "A run that never reached the return threshold stays in as censored: the median (Kaplan-Meier) counts "
    "what it "
    "spent as a lower bound, and is itself only bounded (>=) where half of the runs never got there."
)
CHART_NOTE = (
    "Small points are runs, large ones means of a setting with their 95 % intervals over seeds; ringed "
    "means are not "
    "beaten by another in both figures. The bars leave out the energy gauge's own error, taken to be alike "
    "in all "
    "points."
)


def write_page(comparison: Comparison, path: Path, *, command: str) -> None:
    """Write the page.

    Args:
        comparison: What to show.
        path: The HTML file.
        command: Command line that made it, to be shown.
    """
    count = sum(len(group.runs) for group in comparison.groups)
    tasks = ", ".join(dict.fromkeys(group.tag("task") for group in comparison.groups))
    title = f"Comparing {count} runs of {tasks}"
    body = (
        f"<header><h1>{escape(title)}</h1>"
        f'<p class="quiet">{len(comparison.groups)} settings &middot; energy: '
        f"{escape(comparison.tier)}</p></header>"
        f"{_notes(comparison.notes)}{_table(comparison)}{_charts(comparison)}{_differences(comparison)}"
        f'{_runs(comparison)}<h2>Repeat it</h2><pre class="command">{escape(command)}</pre>'
    )
    write_html(path, title=title, body=body, style=_STYLE)


def _notes(notes: Sequence[str]) -> str:
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<div class="missing"><strong>Before you read on</strong><ul>{listed}</ul></div>' if notes else ""


def _table(comparison: Comparison) -> str:
    against = ["second against first"] if comparison.contrasts else []
    head = ["", *(group.name for group in comparison.groups), *against]
    body = [
        [row.label, *map(_cell, [*row.cells, *([row.contrast] if against else [])])]
        for row in rows(comparison)
    ]
    tiers = " ".join(TIER_SENTENCES[tier] for tier in comparison.tier.split(", ") if tier in TIER_SENTENCES)
    return f'<h2>Side by side</h2>{_grid(head, body)}<p class="quiet">{escape(f"{HOW_TO_READ} {tiers}")}</p>'


def _cell(cell: Cell) -> str:
    note = f'<div class="note">{escape(cell.note)}</div>' if cell.note else ""
    return f"<strong>{escape(cell.value)}</strong>{note}" if cell.value else note


def _charts(comparison: Comparison) -> str:
    figure = charts.svg(comparison)
    return (
        f'<h2>What a return costs</h2><figure class="curves one">{figure}</figure><p '
        f'class="quiet">{CHART_NOTE}</p>'
    )


def _differences(comparison: Comparison) -> str:
    """Return the keys in which the settings differ, folded away: the table names the first of them."""
    keys = comparison.groups[0].settings
    if not keys:
        return ""
    body = [[key, *(escape(group.settings[key]) for group in comparison.groups)] for key in keys]
    return folded(
        "In what the settings differ", _grid(["", *(group.name for group in comparison.groups)], body)
    )


def _runs(comparison: Comparison) -> str:
    """Return every run with its own figures."""
    keys = ("eval/return_mean", "train/return_mean", "factory/tokens_per_s", "factory/joules_per_token")
    head = ["run", "setting", "seed", "status", "tier", "return", "training", "tokens/s", "J/token"]
    body = [
        [
            run.place,
            *map(escape, (group.name, run.seed, run.status, run.tag("energy.tier"))),
            *(_number(run.metrics.get(key)) for key in keys),
        ]
        for group in comparison.groups
        for run in group.runs
    ]
    return folded("Every run", f'<div class="many">{_grid(head, body)}</div>')


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if abs(value) < 0.1 else format_number(value)


def _grid(head: Iterable[str], body: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column and first row are headings.

    Cells of the body are HTML, headings text.
    """
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in body
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
