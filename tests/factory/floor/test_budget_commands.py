"""`budget set`, `list` and `import` change the budget of the running floor at its next tick."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from factory.floor.command_line import parse
from factory.floor.engines.local import LocalEngine
from factory.floor.loop import Floor
from factory.floor.rules import Rules
from factory.floor.store import Store


def call(*arguments: str, root: Path) -> int:
    """Run a command of the floor in this process and return its exit status."""
    given = parse([*arguments, "--root", str(root)])
    return given.action(given)


def test_a_running_floor_sees_a_new_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read once, and again after each change."""
    with Store(tmp_path, create=True) as store:
        floor = Floor(store, LocalEngine(cores=1.0), Rules(watts=100.0))
        try:
            first = floor.budget()
            assert first.at(time.time()).limit_w == 100.0
            assert floor.budget() is first
            assert call("budget", "set", "60", "--for", "3h", root=tmp_path) == 0
            assert floor.budget().at(time.time()).limit_w == 60.0
            assert call("budget", "set", "none", root=tmp_path) == 0
            assert floor.budget().at(time.time()).limit_w == 100.0
        finally:
            floor.power.close()
    assert "60 W (target) until" in capsys.readouterr().out


def test_a_schedule_replaces_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong file changes nothing."""
    path = tmp_path / "budget.csv"
    path.write_text("time_utc,budget_w\n2020-01-01T00:00Z,60\n")
    assert call("budget", "import", str(path), root=tmp_path) == 0
    path.write_text("time_utc,budget_w\n2020-01-01T00:00Z,-1\n")
    with pytest.raises(ValueError, match="row 2: budget_w=-1"):
        call("budget", "import", str(path), root=tmp_path)
    with pytest.raises(ValueError, match="budget import"):
        call("budget", "import", str(tmp_path / "missing.csv"), root=tmp_path)
    capsys.readouterr()
    assert call("budget", "list", root=tmp_path) == 0
    assert capsys.readouterr().out.startswith("60 W (schedule)")


def test_a_year_of_rows_costs_a_tick_nothing(tmp_path: Path) -> None:
    """A schedule with a row each five minutes is read once; then budget and sentence take microseconds."""
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    rows = [
        f"{datetime.fromtimestamp(start + 300.0 * row, UTC):%Y-%m-%dT%H:%M:%SZ},200" for row in range(105_120)
    ]
    path = tmp_path / "year.csv"
    path.write_text("\n".join(["time_utc,budget_w", *rows]))
    assert call("budget", "import", str(path), root=tmp_path) == 0
    with Store(tmp_path) as store:
        floor = Floor(store, LocalEngine(cores=1.0), Rules(watts=inf))
        try:
            floor.budget()
            begin_s = time.process_time()
            for _ in range(20):
                assert floor.budget().describe(start + 1000.0) == "200 W (schedule)"
                assert floor.budget().at(start + 1000.0).limit_w == 200.0
            assert (time.process_time() - begin_s) / 20 < 0.01
        finally:
            floor.power.close()
