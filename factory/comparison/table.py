"""The table of a comparison: figures down, groups across; the same cells for console and page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory.comparison.figures import FIGURES, Contrast, Cost, Estimate, Figure, Threshold
from factory.comparison.groups import Group
from factory.comparison.result import Comparison
from factory.energy.types import Interval
from factory.reporting.formatting import format_duration, format_number, si_unit

GROUPS_ABREAST = 4
"""Groups in one table of the console."""
ABSENT = "-"


class Cell(NamedTuple):
    """A figure as text, and what belongs to it in small print."""

    value: str
    note: str = ""


class Row(NamedTuple):
    """One figure of every group; `contrast` is empty unless there are exactly two groups."""

    label: str
    cells: list[Cell]
    contrast: Cell


def rows(comparison: Comparison) -> Iterator[Row]:
    """Yield the rows of the table; figures that no group has are left out."""
    groups, nothing = comparison.groups, Cell("")
    yield Row("Runs", [_runs(group) for group in groups], nothing)
    tiers = [Cell(group.tier, f"boundary {group.tag('energy.boundary')}") for group in groups]
    yield Row("Energy tier", tiers, nothing)
    yield Row("Token spec", [Cell(group.tag("token_spec.hash")) for group in groups], nothing)
    for figure in FIGURES:
        found = [figures.get(figure.key) for figures in comparison.estimates]
        if any(found):
            cells = [
                _figure(figure, value, tier=group.tier) if value else Cell(ABSENT)
                for group, value in zip(groups, found, strict=True)
            ]
            yield Row(figure.label, cells, _contrast(comparison.contrasts.get(figure.key)))
    known = next((threshold for threshold in comparison.thresholds if threshold), None)
    if known:
        goal = f"return {format_number(known.threshold)} in training"
        yield Row(f"Reached {goal}", [_count(found) for found in comparison.thresholds], nothing)
        yield Row("Time to get there", [_seconds(found) for found in comparison.thresholds], nothing)
        energy = [
            _joules(found, group.tier) for group, found in zip(groups, comparison.thresholds, strict=True)
        ]
        yield Row("Energy to get there", energy, nothing)


def _runs(group: Group) -> Cell:
    seeds = f"seed {group.seeds[0]}" if len(group.seeds) == 1 else f"seeds {', '.join(group.seeds)}"
    return Cell(f"{len(group.runs)}", seeds)


def _figure(figure: Figure, value: Estimate, *, tier: str) -> Cell:
    """Return a mean with its interval; joules with tier and gauge too."""
    scale, unit = si_unit(abs(value.seeds.value), figure.unit) if figure.unit else (1.0, "")
    text = f"{format_number(float(f'{value.seeds.value / scale:.4g}'))} {unit}".rstrip()
    over_seeds = f"{_bounds(value.seeds, scale)} over {value.num_seeds} seeds"
    note = over_seeds if value.num_seeds > 1 else "1 seed: no interval"
    if figure.is_energy:
        gauge = _bounds(value.both or value.gauge, scale) if value.gauge else "unknown"
        note += f"; {tier}, with the gauge's error {gauge}"
    return Cell(text, note)


def _bounds(interval: Interval, scale: float = 1.0) -> str:
    return f"[{format_number(interval.lo / scale)}, {format_number(interval.hi / scale)}]"


def _contrast(found: Contrast | None) -> Cell:
    if found is None:
        return Cell("")
    value, interval = found.interval.value, found.interval
    text = f"{value:+.4g}" if found.figure.is_return else f"x {value:.3g}"
    if math.isnan(interval.lo):
        return Cell(text, "1 seed: no interval")
    bounds = f"[{interval.lo:+.4g}, {interval.hi:+.4g}]"
    if not found.figure.is_return:
        bounds = f"x [{interval.lo:.3g}, {interval.hi:.3g}]"
    remark = "" if found.is_clear else "; no difference shown"
    if found.figure.is_energy:
        remark += (
            "; the gauge's error taken as common to both"
            if found.is_gauge_shared
            else "; gauges' errors included"
        )
    return Cell(text, bounds + remark)


def _count(found: Threshold | None) -> Cell:
    return Cell(f"{found.reached} of {found.runs} runs" if found else ABSENT)


def _seconds(found: Threshold | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    return Cell(_at_least(found.seconds, format_duration(found.seconds.median)), _median_note(found))


def _joules(found: Threshold | None, tier: str) -> Cell:
    if found is None:
        return Cell(ABSENT)
    if (cost := found.joules) is None:
        return Cell(ABSENT, "not metered")
    scale, unit = si_unit(cost.median, "J")
    gauge = _bounds(cost.gauge, scale) if cost.gauge else "unknown"
    text = f"{float(f'{cost.median / scale:.4g}'):g} {unit}"
    return Cell(_at_least(cost, text), f"{_median_note(found)}; {tier}, gauge's error {gauge}")


def _at_least(cost: Cost, text: str) -> str:
    return f">= {text}" if cost.is_bound else text


def _median_note(found: Threshold) -> str:
    return "median" if found.reached == found.runs else f"median, {found.runs - found.reached} censored"


def print_table(comparison: Comparison) -> None:
    """Print the table, a few groups abreast, and the notes below."""
    console = Console(highlight=False)
    # A row that wraps cannot be read, so a narrow terminal wraps whole lines instead.
    console = Console(width=max(console.width, 150), highlight=False)
    found = list(rows(comparison))
    for start in range(0, len(comparison.groups), GROUPS_ABREAST):
        shown = slice(start, start + GROUPS_ABREAST)
        headers = [group.name for group in comparison.groups[shown]]
        against = ["second against first"] if comparison.contrasts else []
        table = Table("", *headers, *against, show_lines=False, padding=(0, 2, 1, 0), box=None)
        for row in found:
            cells = [*row.cells[shown], *([row.contrast] if against else [])]
            table.add_row(Text(row.label, style="dim"), *map(_rich, cells))
        console.print(table)
    for note in comparison.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _rich(cell: Cell) -> Text:
    return Text.assemble((cell.value, "bold"), *([("\n" + cell.note, "dim")] if cell.note else []))
