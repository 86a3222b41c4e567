"""Schedules and targets are read strictly: a wrong one ends in a line with row, key and remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from factory.floor import budget_input
from factory.floor.budget_input import make_target, parse_duration, parse_watts, read_schedule

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
GOOD = "time_utc,budget_w\n2026-11-26T12:00:00Z,60\n2026-11-26T14:00,120.5\n"


def write(folder: Path, content: str | bytes) -> Path:
    """Return a file with the content."""
    path = folder / "budget.csv"
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace("Z", "+00:00").replace("T", " "),
        GOOD.replace(",", " , ") + "\n\n",
        GOOD.replace("60", '"60"').replace("120.5", "1205e-1"),
    ],
)
def test_schedules_are_read_as_programs_write_them(tmp_path: Path, content: str) -> None:
    """Line ends, a byte order mark, spaces, quotes and blank lines make no difference."""
    assert read_schedule(write(tmp_path, content)) == ((NOON, 60.0), (NOON + 7200.0, 120.5))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "no rows"),
        ("time_utc,budget_w\n", "no rows"),
        ("time,watts\n", "row 1: header=time,watts: write time_utc,budget_w"),
        ("time_utc;budget_w\n", "row 1: header"),
        (GOOD + "2026-11-26T13:00Z,5\n", "row 4: time_utc=2026-11-26T13:00Z: must be later"),
        (GOOD + "2026-11-26T14:00Z,5\n", "row 4: time_utc=2026-11-26T14:00Z: must be later"),
        (GOOD + "2026-11-26T15:00+01:00,5\n", "row 4: time_utc"),
        (GOOD + "tomorrow,5\n", "row 4: time_utc=tomorrow: write a time in UTC"),
        (GOOD + "1026-11-26T15:00Z,5\n", "row 4: time_utc"),
        (GOOD + "2026-11-26T15:00Z,-5\n", "row 4: budget_w=-5: must be >= 0 W"),
        (GOOD + "2026-11-26T15:00Z,nan\n", "row 4: budget_w=nan: write a number"),
        (GOOD + "2026-11-26T15:00Z,inf\n", "row 4: budget_w=inf"),
        (GOOD + "2026-11-26T15:00Z,1_0\n", "row 4: budget_w=1_0"),
        (GOOD + "2026-11-26T15:00Z,1e12\n", "row 4: budget_w=1e12: must be at most"),
        (GOOD + "2026-11-26T15:00Z,\n", "row 4: budget_w=: write a number"),
        (GOOD + "2026-11-26T15:00Z,60,5\n", "row 4: 3 fields"),
        (GOOD + "2026-11-26T15:00Z\n", "row 4: 1 fields"),
        (GOOD + '2026-11-26T15:00Z,"5"x\n', "row 4"),
        (GOOD + '"a\nb",5\n', "row 5: time_utc=a b"),
        (GOOD.encode("utf-16"), "not text in UTF-8"),
        (GOOD.encode() + b"\xff", "not text in UTF-8"),
        (b"\x00" * 100, "row 1"),
    ],
)
def test_wrong_schedules_end_in_one_line(tmp_path: Path, content: str | bytes, found: str) -> None:
    """The message names the file and, where it is one row, the row."""
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as error:
        read_schedule(path)
    message = str(error.value)
    assert found in message
    assert str(path) in message
    assert len(message.splitlines()) == 1


def test_schedules_have_a_greatest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large is refused before it is parsed."""
    monkeypatch.setattr(budget_input, "LARGEST_FILE_BYTES", 10)
    with pytest.raises(ValueError, match="more than the 10 expected"):
        read_schedule(write(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("text", "duration_s"), [("3h", 10800.0), ("1h30m", 5400.0), ("45s", 45.0), ("1.5d", 129600.0)]
)
def test_durations_have_units(text: str, duration_s: float) -> None:
    """Days, hours, minutes and seconds, from the greatest to the least."""
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["", "3", "h", "0s", "-3h", "3h2d", "1.2.3h", "99999999d", "3 hours"])
def test_wrong_durations_are_refused(text: str) -> None:
    """The message names the value."""
    with pytest.raises(ValueError, match=r"^--for="):
        parse_duration(text, key="--for")


def test_targets_start_now_or_at_a_time() -> None:
    """A time of day is the next one in UTC."""
    assert make_target("60", now=NOON).start == NOON
    assert make_target("60", now=NOON).end is None
    later = make_target("60.5", now=NOON, at="14:00", duration="3h")
    assert (later.watts, later.start, later.end) == (60.5, NOON + 7200.0, NOON + 18000.0)
    assert make_target("60", now=NOON, at="11:00").start == NOON + 23 * 3600.0
    assert make_target("60", now=NOON, at="2026-11-27").start == NOON + 12 * 3600.0
    assert make_target("none", now=NOON).watts == inf


@pytest.mark.parametrize("text", ["-1", "sixty", "60W", "nan", "inf", "1e10", "", "٦٠"])
def test_wrong_powers_are_refused(text: str) -> None:
    """The message names the value."""
    with pytest.raises(ValueError, match=r"^watts="):
        parse_watts(text)
