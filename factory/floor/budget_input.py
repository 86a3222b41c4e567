"""Budgets as people write them: schedules in CSV files, and the values of `budget set`."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from factory.floor.budget import Target
from factory.runtime import stored_files
from factory.validation import require

COLUMNS = ["time_utc", "budget_w"]
LARGEST_FILE_BYTES = 4 * 2**20
"""A row each five minutes for a year has less."""
LONGEST_CELL = 60
HIGHEST_W = 1e9
"""No budget is above this; one that is has the wrong unit."""
LONGEST_S = 10 * 365 * 86400.0
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?:in)?)?(?:([0-9.]+)s)?")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def read_schedule(path: Path) -> tuple[tuple[float, float], ...]:
    """Return the rows of a schedule: time [s since 1970, UTC] and power [W], by rising time.

    Raises:
        ValueError: The file is no schedule; the message names the row, its value and the remedy.
    """
    try:
        content = stored_files.read_bytes(path, limit=LARGEST_FILE_BYTES)
    except ValueError as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        raise ValueError(f"budget import: {path}: {reason}; give a CSV file of at most 4 MiB") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 (byte {error.start}); save it as CSV in UTF-8") from None
    return _parse(str(path), text)


def _parse(name: str, text: str) -> tuple[tuple[float, float], ...]:
    """Return the rows of the text of a schedule; `name` is the file's."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[float, float]] = []
    header: list[str] | None = None
    try:
        for fields in reader:
            where = f"{name}, row {reader.line_num}"
            # A message repeats a cell in one line, so no cell may be long or hold line ends.
            cells = [" ".join(field.split())[:LONGEST_CELL] for field in fields]
            # Spreadsheets leave empty rows behind.
            if not any(cells):
                continue
            if header is None:
                header = cells
                require(cells == COLUMNS, f"{where}: header", ",".join(cells), "write time_utc,budget_w")
                continue
            rows.append(_row(where, cells, rows))
    except csv.Error as error:
        raise ValueError(f"{name}, row {reader.line_num}: {error}; write time_utc,budget_w rows") from None
    if not rows:
        raise ValueError(f"{name}: no rows; write time_utc,budget_w and a row for each step")
    return tuple(rows)


def _row(where: str, cells: list[str], before: list[tuple[float, float]]) -> tuple[float, float]:
    if len(cells) != len(COLUMNS):
        raise ValueError(
            f"{where}: {len(cells)} fields; write a time and a power, such as 2026-11-26T14:00Z,60"
        )
    time_s = parse_time(cells[0], key=f"{where}: time_utc")
    watts = _number(cells[1], key=f"{where}: budget_w")
    if before:
        remedy = "must be later than the row before; sort the rows, and give each time once"
        require(time_s > before[-1][0], f"{where}: time_utc", cells[0], remedy)
    return time_s, watts


def parse_watts(text: str, *, key: str = "watts") -> float:
    """Return a power [W]; infinite for `none`.

    Raises:
        ValueError: The text is no power.
    """
    if text == "none":
        return inf
    return _number(text, key=key)


def _number(text: str, *, key: str) -> float:
    """Return a finite power [W] that is not negative."""
    matched = _NUMBER.fullmatch(text)
    require(matched is not None, key, text, "write a number of watts, such as 60")
    watts = float(text)
    require(watts >= 0.0, key, text, "must be >= 0 W")
    require(watts <= HIGHEST_W, key, text, f"must be at most {HIGHEST_W:g} W; the unit is W")
    return watts


def parse_duration(text: str, *, key: str = "for") -> float:
    """Return a duration [s] such as `3h`, `90m`, `1h30m` or `45s`.

    Raises:
        ValueError: The text is no duration above zero.
    """
    matched = _DURATION.fullmatch(text.strip())
    remedy = "write a duration above zero with its unit, such as 3h, 90m or 1h30m"
    require(bool(text.strip()) and matched is not None, key, text, remedy)
    assert matched is not None
    try:
        duration_s = sum(
            float(number) * unit_s
            for number, unit_s in zip(matched.groups(), _UNITS_S, strict=True)
            if number is not None
        )
    except ValueError:
        raise ValueError(f"{key}={text}: {remedy}") from None
    require(duration_s > 0.0, key, text, remedy)
    require(
        duration_s <= LONGEST_S, key, text, "must be at most ten years; leave it out for a target without end"
    )
    return duration_s


def parse_time(text: str, *, key: str = "at") -> float:
    """Return a time [s since 1970, UTC] written as in ISO 8601; one without an offset is UTC.

    Raises:
        ValueError: The text is no time, or has another offset than UTC's.
    """
    remedy = "write a time in UTC, such as 2026-11-26T14:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{key}={text}: {remedy}") from None
    offset = moment.utcoffset()
    # No offset and an offset of zero are both UTC; any other would look like a slip.
    require(not offset, key, text, remedy)
    moment = moment.replace(tzinfo=UTC)
    require(_EARLIEST <= moment < _LATEST, key, text, "must lie between the years 2000 and 2200")
    return moment.timestamp()


def make_target(watts: str, *, now: float, duration: str | None = None, at: str | None = None) -> Target:
    """Return the target that `budget set` asks for.

    Args:
        watts: Power, or `none` to lift earlier targets.
        now: Present time [s since 1970, UTC].
        duration: Value of `--for`; without end if None.
        at: Value of `--at`, a time or a time of day in UTC, which is the next such; now if None.

    Raises:
        ValueError: A value is wrong.
    """
    power_w = parse_watts(watts)
    start = now
    if at is not None:
        start = _start(at, now)
    end = None
    if duration is not None:
        end = start + parse_duration(duration, key="--for")
    return Target(watts=power_w, start=start, end=end, issued=now)


def _start(text: str, now: float) -> float:
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        return parse_time(text.strip(), key="--at")
    today = datetime.fromtimestamp(now, UTC)
    start = today.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0).timestamp()
    if start < now:
        start += 86400.0
    return start
