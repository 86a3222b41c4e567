"""The table of a comparison: metrics down, groups across; the same cells for console and page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from factory.comparison.contrast import Contrast
from factory.comparison.estimate import Estimate
from factory.comparison.groups import Group
from factory.comparison.result import Comparison
from factory.comparison.threshold import Cost, ThresholdCost
from factory.energy.types import Interval
from factory.metric_keys import Metric
from factory.reporting.formatting import format_duration, format_number, format_plain, si_unit
from factory.runtime.stored_files import visible

GROUPS_ABREAST = 4
"""Groups in one table of the console."""
AGAINST = "second against first"
ABSENT = "-"
_SCALED_UNITS = ("J", "J/token", "s/token", "tokens/s", "steps/s")


class Cell(NamedTuple):
    """A value as text, and its small print."""

    value: str
    note: str = ""


class Row(NamedTuple):
    """One metric of every group; `contrast` is empty unless there are exactly two groups."""

    label: str
    cells: list[Cell]
    contrast: Cell


def rows(comparison: Comparison) -> Iterator[Row]:
    """Yield the rows of the table; metrics that no group has are left out."""
    groups = comparison.groups
    nothing = Cell("")
    yield Row("Runs", [_runs(group) for group in groups], nothing)
    tiers = [Cell(group.tier, f"boundary {group.tag('energy.boundary')}") for group in groups]
    yield Row("Energy tier", tiers, nothing)
    yield Row("Token spec", [Cell(group.tag("token_spec.hash")) for group in groups], nothing)
    # A task without falls or success has no such row.
    for compared in comparison.metrics:
        found = [estimates.get(compared.key) for estimates in comparison.estimates]
        if not any(found):
            continue
        cells = [
            _estimate(compared, value, tier=group.tier) for group, value in zip(groups, found, strict=True)
        ]
        yield Row(compared.label, cells, _contrast(comparison.contrasts.get(compared.key)))
    yield from _threshold_rows(comparison)


def _threshold_rows(comparison: Comparison) -> Iterator[Row]:
    nothing = Cell("")
    # The task is the same for all groups, and so is its threshold, unless force=true.
    known = next((cost for cost in comparison.thresholds if cost), None)
    if known is None:
        return
    goal = f"return {format_number(known.threshold)} in training"
    yield Row(f"Reached {goal}", [_count(cost) for cost in comparison.thresholds], nothing)
    yield Row("Time to get there", [_seconds(cost) for cost in comparison.thresholds], nothing)
    energy = [
        _joules(cost, group.tier)
        for group, cost in zip(comparison.groups, comparison.thresholds, strict=True)
    ]
    yield Row("Energy to get there", energy, nothing)


def _runs(group: Group) -> Cell:
    seeds = f"seeds {', '.join(group.seeds)}"
    if len(group.seeds) == 1:
        seeds = f"seed {group.seeds[0]}"
    return Cell(f"{len(group.runs)}", seeds)


def _scale(compared: Metric, value: float) -> tuple[float, str]:
    """Return the divisor and the unit in which a metric of this size is read best."""
    if compared.unit == "%":
        return 0.01, "%"
    if compared.unit in _SCALED_UNITS:
        return si_unit(abs(value), compared.unit)
    return 1.0, compared.unit


def _estimate(compared: Metric, found: Estimate | None, *, tier: str) -> Cell:
    """Return a mean with its interval; joules also with tier and the bounds of the energy source."""
    if found is None:
        return Cell(ABSENT)
    # Mean and bounds share one unit, or nobody could compare them at a glance.
    scale, unit = _scale(compared, found.seeds.value)
    text = f"{_number(found.seeds.value / scale)} {unit}".rstrip()
    note = "1 seed: no interval"
    if found.episodes:
        note = f"1 seed; {_bounds(found.episodes, scale)} over its {found.num_episodes} episodes"
    if found.num_seeds > 1:
        note = f"{_bounds(found.seeds, scale)} over {found.num_seeds} seeds"
    if compared.is_energy:
        bounds = "unknown"
        if found.source:
            bounds = _bounds(found.both or found.source, scale)
        note += f"; {tier}, with the energy source's error {bounds}"
    return Cell(text, note)


def _number(value: float) -> str:
    """Return four digits, or three without an exponent where that would need one."""
    if 0.0 < abs(value) < 1e-3:
        return format_plain(value)
    return format_number(float(f"{value:.4g}"))


def _bounds(interval: Interval, scale: float = 1.0) -> str:
    return f"[{_number(interval.lo / scale)}, {_number(interval.hi / scale)}]"


def _contrast(found: Contrast | None) -> Cell:
    if found is None:
        return Cell("")
    interval = found.interval
    if found.metric.is_signed:
        text = f"{interval.value:+.4g}"
        bounds = f"[{interval.lo:+.4g}, {interval.hi:+.4g}]"
    else:
        text = f"x {interval.value:.3g}"
        bounds = f"x [{interval.lo:.3g}, {interval.hi:.3g}]"
    # A difference of single runs may be anything, and says so.
    if math.isnan(interval.lo):
        return Cell(text, "1 seed: no interval")
    remark = ""
    if not found.is_clear:
        remark = "; no difference shown"
    if found.metric.is_energy and found.is_source_shared:
        remark += "; the energy source's error taken as common to both"
    elif found.metric.is_energy:
        remark += "; errors of both energy sources included"
    return Cell(text, bounds + remark)


def _count(found: ThresholdCost | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    return Cell(f"{found.reached} of {found.runs} runs")


def _seconds(found: ThresholdCost | None) -> Cell:
    if found is None:
        return Cell(ABSENT)
    return Cell(_at_least(found.seconds, format_duration(found.seconds.median)), _median_note(found))


def _joules(found: ThresholdCost | None, tier: str) -> Cell:
    if found is None:
        return Cell(ABSENT)
    cost = found.joules
    if cost is None:
        return Cell(ABSENT, "not metered")
    scale, unit = si_unit(cost.median, "J")
    bounds = "unknown"
    if cost.source:
        bounds = _bounds(cost.source, scale)
    text = f"{_number(cost.median / scale)} {unit}"
    return Cell(_at_least(cost, text), f"{_median_note(found)}; {tier}, energy source's error {bounds}")


def _at_least(cost: Cost, text: str) -> str:
    if cost.is_bound:
        return f">= {text}"
    return text


def _median_note(found: ThresholdCost) -> str:
    if found.reached == found.runs:
        return "median"
    return f"median, {found.runs - found.reached} censored"


def print_table(comparison: Comparison) -> None:
    """Print the table, a few groups abreast, and the notes below."""
    console = Console(highlight=False)
    # A row that wraps cannot be read, so a narrow terminal wraps whole lines instead.
    console = Console(width=max(console.width, 150), highlight=False)
    found = list(rows(comparison))
    # Wide tables are cut into several, each with its labels.
    for start in range(0, len(comparison.groups), GROUPS_ABREAST):
        shown = slice(start, start + GROUPS_ABREAST)
        headers = [group.name for group in comparison.groups[shown]]
        if comparison.contrasts:
            headers.append(AGAINST)
        # Names of groups are text of the user, brackets and all.
        columns = [Column(Text(visible(header))) for header in ("", *headers)]
        table = Table(*columns, show_lines=False, padding=(0, 2, 1, 0), box=None)
        for row in found:
            cells = row.cells[shown]
            if comparison.contrasts:
                cells = [*cells, row.contrast]
            table.add_row(Text(visible(row.label), style="dim"), *map(_rich, cells))
        console.print(table)
    for note in comparison.notes:
        console.print(Text(visible(f"note: {note}")), soft_wrap=True)


def _rich(cell: Cell) -> Text:
    text = Text(visible(cell.value), style="bold")
    if cell.note:
        text.append(f"\n{visible(cell.note)}", style="not bold dim")
    return text
