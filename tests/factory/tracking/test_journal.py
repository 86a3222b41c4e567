"""The local record of figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

from factory.tracking.journal import Journal


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    """What was appended is read back, with its step and a time."""
    journal = Journal(tmp_path / "run" / "metrics.jsonl")
    journal.append({"train/return_mean": 1.5}, 100)
    journal.append({"train/return_mean": 2.5}, 200)
    rows = list(journal.rows())
    assert [(row["step"], row["metrics"]["train/return_mean"]) for row in rows] == [(100, 1.5), (200, 2.5)]
    assert all(row["time_unix_s"] > 1e9 for row in rows)


def test_not_finite_is_strict_json_and_reads_as_nan(tmp_path: Path) -> None:
    """NaN and infinity become null on disk and NaN for the reader."""
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"a": math.nan, "b": math.inf}, 1)
    assert json.loads(journal.path.read_text())["metrics"] == {"a": None, "b": None}
    assert all(math.isnan(value) for value in next(journal.rows())["metrics"].values())


def test_truncate_drops_what_a_resumed_run_repeats(tmp_path: Path) -> None:
    """Rows beyond the resumed step go, the row of that step stays, and appending goes on."""
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in (10, 20, 30):
        journal.append({"a": math.nan if step == 10 else step}, step)
    journal.truncate_after(20)
    journal.append({"a": 31.0}, 30)
    assert [row["step"] for row in journal.rows()] == [10, 20, 30]
    assert [row["metrics"]["a"] for row in journal.rows()][1:] == [20.0, 31.0]


def test_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """A line that a kill left half written does not spoil the next one."""
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"a": 1.0}, 1)
    with journal.path.open("a") as file:
        file.write('{"step": 2, "met')
    again = Journal(journal.path)
    again.append({"a": 3.0}, 3)
    assert [row["step"] for row in again.rows()] == [1, 3]


def test_the_end_of_a_run_is_there_once(tmp_path: Path) -> None:
    """A run that goes through its last stages again replaces their row, and keeps every iteration."""
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in (10, 20):
        journal.append({"loss/policy": 0.5}, step)
    for value in (1.0, 2.0, 3.0):
        journal.append_last({"eval/return_mean": value}, 20)
    rows = list(journal.rows())
    assert [row["step"] for row in rows] == [10, 20, 20]
    assert rows[-1]["metrics"] == {"eval/return_mean": 3.0}
