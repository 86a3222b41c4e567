"""Signals in tables: prices, and carbon intensities of Electricity Maps, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from factory.grid.signals import Kind, Point, closed
from factory.grid.times import shown
from factory.validation import require

_HOUR_S = 3600.0
_KWH_PER_MWH = 1000.0
_HIGHEST = 1e6
_MOST_ROWS = 200_000
"""Two years of five minutes are fewer; rows in memory take a multiple of their text."""
_EARLIEST_S = 946684800.0
_LATEST_S = 7258118400.0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A known kind of table."""

    name: str
    kind: Kind
    start: Callable[[str], bool]
    """Recognises the column of an interval's start by its heading."""
    value: Callable[[str], bool]
    """Recognises the column of the value."""
    scale: float = 1.0
    """Factor from the table's unit to that of the signal."""


def _is(text: str) -> Callable[[str], bool]:
    return lambda heading: heading == text


_TABLES = (
    Table(name="prices", kind=Kind.PRICE, start=_is("time_utc"), value=_is("usd_per_kwh")),
    Table(name="carbon", kind=Kind.CARBON_AVERAGE, start=_is("time_utc"), value=_is("g_per_kwh")),
    Table(name="marginal", kind=Kind.CARBON_MARGINAL, start=_is("time_utc"), value=_is("marginal_g_per_kwh")),
    Table(
        name="Electricity Maps, life cycle",
        kind=Kind.CARBON_AVERAGE,
        start=lambda heading: heading.startswith("Datetime (UTC)"),
        value=lambda heading: heading.lower().startswith("carbon intensity") and _is_life_cycle(heading),
    ),
    Table(
        name="Electricity Maps, direct",
        kind=Kind.CARBON_AVERAGE,
        start=lambda heading: heading.startswith("Datetime (UTC)"),
        value=lambda heading: heading.lower().startswith("carbon intensity"),
    ),
    Table(
        name="gridstatus",
        kind=Kind.PRICE,
        start=lambda heading: heading in ("Interval Start", "Interval Start UTC"),
        value=lambda heading: heading in ("LMP", "SPP"),
        scale=1.0 / _KWH_PER_MWH,
    ),
)
"""Tables by their headings; the first that fits counts, so life-cycle carbon comes before direct carbon."""


def _is_life_cycle(heading: str) -> bool:
    return "life cycle" in heading.lower() or "(lca)" in heading.lower()


def read_table(text: str, *, name: str, issued: float, is_forecast: bool) -> tuple[Kind, list[Point], str]:
    """Return the kind of a table, its points, and a remark about its column.

    Args:
        text: content of the file.
        name: name of the file, for messages.
        issued: time at which it was published.
        is_forecast: True if its values are forecasts.

    Raises:
        ValueError: It is of no known kind, or a row is wrong.
    """
    rows = list(_rows(text, name))
    require(len(rows) > 1, name, "", "has no rows below its heading")
    headings = [cell.strip() for cell in rows[0][1]]
    table, start, value = _find(headings, name)
    starts: list[tuple[float, float]] = []
    for number, cells in rows[1:]:
        where = f"{name}, row {number}"
        require(len(cells) == len(headings), where, f"{len(cells)} fields", f"must have {len(headings)}")
        # Electricity Maps leaves a cell empty where it knows nothing.
        if not cells[value].strip():
            continue
        at = _moment(cells[start].strip(), key=f"{where}: {shown(headings[start])}")
        number_read = _number(cells[value].strip(), key=f"{where}: {shown(headings[value])}")
        if starts:
            remedy = "must be later than the row before; give each time once, and one location"
            # Two locations in one file would mix two prices for one hour.
            require(at > starts[-1][0], f"{where}: {shown(headings[start])}", shown(cells[start]), remedy)
        starts.append((at, number_read * table.scale))
    require(bool(starts), name, "", "has no values")
    points = [
        Point(start, end, value, issued, is_forecast) for start, end, value in closed(starts, last_s=_HOUR_S)
    ]
    return table.kind, points, f"{table.name}: column {shown(headings[value])}"


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of the rows that are not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            require(reader.line_num <= _MOST_ROWS, name, f"{reader.line_num} rows", "give a shorter table")
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{name}, row {reader.line_num}: {error}; give a CSV file") from None


def _find(headings: list[str], name: str) -> tuple[Table, int, int]:
    for table in _TABLES:
        starts = [place for place, heading in enumerate(headings) if table.start(heading)]
        values = [place for place, heading in enumerate(headings) if table.value(heading)]
        if starts and values:
            return table, starts[0], values[0]
    raise ValueError(
        f"{name}: {shown(','.join(headings))}: no known headings; write time_utc and usd_per_kwh, g_per_kwh"
        " or marginal_g_per_kwh, or give a file of Electricity Maps or gridstatus"
    )


def _moment(text: str, *, key: str) -> float:
    """Return a moment [s since 1970]; one without an offset is UTC, as the headings say."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{key}={shown(text)}: write a time such as 2026-11-26T14:00Z") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    is_inside = _EARLIEST_S <= found.timestamp() < _LATEST_S
    require(is_inside, key, shown(text), "must lie between the years 2000 and 2200")
    return found.timestamp()


def _number(text: str, *, key: str) -> float:
    """Return a number; prices may be negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    require(math.isfinite(value) and abs(value) <= _HIGHEST, key, shown(text), "write a number")
    return value
