"""A benchmark's rows as tables for a terminal or a log, 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from factory.benchmark.harness import LEVELS
from factory.benchmark.throughput import Row
from factory.reporting.formatting import energy_text, format_si

_SPEED_COLUMNS = ("raw physics", "env.step", "+ policy", "+ learn", "spread")
_TIME_COLUMNS = ("iteration", "physics", "env", "infer", "learn", "rest")
_TOKEN_COLUMNS = ("tokens/s", "J/token", "interval", "tier", "CPU s/token", "memory")
_LARGE_SPREAD = 0.2
"""Relative difference between rounds above which a warning is printed."""


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Print tables of speeds, of an iteration's parts and of the cost of a token, with notes on accuracy."""
    # Three tables instead of one wide one: a terminal or a log has 80 columns.
    for title, columns, cells in (
        ("Control steps/s of all worlds (share of raw physics)", _SPEED_COLUMNS, _speeds),
        ("Time of a training iteration, and where it goes", _TIME_COLUMNS, _times),
        ("Control tokens: output, energy, memory", _TOKEN_COLUMNS, _tokens),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for column in ("worlds", *columns):
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(f"{row.num_envs:,}", *cells(row))
        console.print(table)
    # The energy source is the same for all rows.
    for line in rows[0].energy.explanation:
        console.print(line, style="dim", soft_wrap=True, markup=False)
    spread = max(_spread(row) for row in rows)
    if spread > _LARGE_SPREAD:
        warning = (
            f"Rounds differ by up to {100 * spread:.0f} %: the machine is also busy with other work; see "
            "docs/bench.md"
        )
        console.print(warning, style="yellow", soft_wrap=True)


def _speeds(row: Row) -> list[str | Text]:
    """Return the four levels, the warm speed above the cold one, and the largest spread."""
    cells: list[str | Text] = []
    for name in LEVELS:
        level = row.levels[name]
        ratio = ""
        # The engine's own ratio is 1 by definition.
        if name != "raw" and level.ratio_to_raw is not None:
            ratio = f" ({level.ratio_to_raw:.2f})"
        cold = Text(f"\ncold {format_si(_or_nan(level.cold_steps_per_s))}", style="dim")
        cells.append(Text.assemble((format_si(_or_nan(level.steps_per_s)), "bold"), ratio, cold))
    return [*cells, f"{100 * _spread(row):.0f} %"]


def _times(row: Row) -> list[str | Text]:
    iteration = row.iteration
    parts = (iteration.physics_s, iteration.env_s, iteration.infer_s, iteration.learn_s, iteration.rest_s)
    cells: list[str | Text] = [Text(format_si(iteration.wall_s, "s"), "bold")]
    for part_s in parts:
        share = "-"
        if part_s is not None:
            share = f"{100 * part_s / iteration.wall_s:.0f} %"
        cells.append(share)
    return cells


def _tokens(row: Row) -> list[str | Text]:
    energy = row.energy
    names = ("energy/total_j", "energy/total_j_lo", "energy/total_j_hi")
    bounds = (energy.joules_per_token, energy.joules_per_token_lo, energy.joules_per_token_hi)
    value, note = energy_text(
        _or_nan(energy.joules_per_token),
        dict(zip(names, map(_or_nan, bounds), strict=True)),
        tier=energy.tier,
    )
    # `energy_text` returns "1.2 mJ" and "estimated, [0.8, 1.9]"; the interval has a column of its own here.
    unit = value.partition(" ")[2]
    interval = "-"
    if unit:
        interval = f"{note.rpartition(', ')[2]} {unit}"
    # On a GPU, its memory limits the number of worlds; on a CPU, the process's.
    memory_bytes = row.rss_bytes
    if row.cuda_peak_bytes is not None:
        memory_bytes = row.cuda_peak_bytes
    return [
        Text(format_si(row.tokens_per_s), "bold"),
        Text(value, "bold"),
        interval,
        energy.tier,
        format_si(energy.cpu_s_per_token, "s"),
        format_si(memory_bytes, "B"),
    ]


def _spread(row: Row) -> float:
    # `env`, `policy` and `learn` always have a spread, so there is a largest one.
    return max(level.spread for level in row.levels.values() if level.spread is not None)


def _or_nan(value: float | None) -> float:
    if value is None:
        return math.nan
    return value
