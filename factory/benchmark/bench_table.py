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
"""Difference between rounds from which on the reader is warned."""


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Print speeds, what an iteration is made of, what a token costs, and what to know about the figures."""
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
    for line in rows[0].energy.explanation:
        console.print(line, style="dim", soft_wrap=True)
    spread = max(_spread(row) for row in rows)
    if spread > _LARGE_SPREAD:
        warning = (
            f"Rounds differ by up to {100 * spread:.0f} %: the machine does something else too; see "
            "docs/bench.md"
        )
        console.print(warning, style="yellow", soft_wrap=True)


def _speeds(row: Row) -> list[str | Text]:
    """Return the four levels, warm over cold, and the spread of the least steady one."""
    cells: list[str | Text] = []
    for name in LEVELS:
        level = row.levels[name]
        if name == "raw" or level.ratio_to_raw is None:
            ratio = ""
        else:
            ratio = f" ({level.ratio_to_raw:.2f})"
        cold = Text(f"\ncold {format_si(_or_nan(level.cold_steps_per_s))}", style="dim")
        cells.append(Text.assemble((format_si(_or_nan(level.steps_per_s)), "bold"), ratio, cold))
    return [*cells, f"{100 * _spread(row):.0f} %"]


def _times(row: Row) -> list[str | Text]:
    part = row.iteration
    parts = (part.physics_s, part.env_s, part.infer_s, part.learn_s, part.rest_s)
    shares = ("-" if part_s is None else f"{100 * part_s / part.wall_s:.0f} %" for part_s in parts)
    return [Text(format_si(part.wall_s, "s"), "bold"), *shares]


def _tokens(row: Row) -> list[str | Text]:
    energy = row.energy
    names = ("energy/total_j", "energy/total_j_lo", "energy/total_j_hi")
    bounds = (energy.joules_per_token, energy.joules_per_token_lo, energy.joules_per_token_hi)
    value, note = energy_text(
        _or_nan(energy.joules_per_token),
        dict(zip(names, map(_or_nan, bounds), strict=True)),
        tier=energy.tier,
    )
    unit = value.partition(" ")[2]
    if unit:
        interval = f"{note.rpartition(', ')[2]} {unit}"
    else:
        interval = "-"
    if row.cuda_peak_bytes is None:
        memory_bytes = row.rss_bytes
    else:
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
    return max(level.spread for level in row.levels.values() if level.spread is not None)


def _or_nan(value: float | None) -> float:
    if value is None:
        return math.nan
    return value
