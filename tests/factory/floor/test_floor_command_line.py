"""Mistakes in the floor's commands end in one line and exit status 2, and write nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from floor_lines import make_line

from factory.floor import floor_lock
from factory.floor.command_line import main
from factory.floor.lines import Attempt, Handle, LineState
from factory.floor.store import FILE, Store

_MISTAKES = (
    ("", "command"),
    ("nope", "nope"),
    ("submit", "submit"),
    ("submit tsk=1", "task"),
    ("submit task=nope", "task=nope"),
    ("submit seed=-1", "seed"),
    ("submit seed=x", "seed"),
    ("submit resume=last", "resume"),
    ("submit output_root=/tmp", "output_root"),
    ("submit hydra.run.dir=/tmp", "hydra.run.dir"),
    ("submit seed=0 --flex 4", "--flex"),
    ("submit seed=0 --flex x", "--flex"),
    ("submit seed=0 --priority 1e9", "--priority"),
    ("submit seed=0 --cores 0", "--cores"),
    ("submit seed=0 --cores nan", "--cores"),
    ("submit seed=0 --deadline tomorrow", "--deadline"),
    ("submit seed=0 -m", "-m"),
    ("submit total_steps=inf", "total_steps"),
    ("run --watts -1", "--watts"),
    ("run --watts lots", "--watts"),
    ("run --watts nan", "--watts"),
    ("run --cores 0", "--cores"),
    ("run --engine cloud", "--engine"),
    ("run --tick 0", "--tick"),
    ("run --profile fast", "--profile"),
    ("run --profile capped", "--profile"),
    ("run", "no floor"),
    ("status", "no floor"),
    ("status --nope", "--nope"),
    ("why", "ID"),
    ("why x", "ID"),
    ("why 1", "no floor"),
    ("logs 1", "no floor"),
    ("pause 1", "no floor"),
    ("resume 1", "no floor"),
    ("preempt 1", "no floor"),
    ("cancel 1", "no floor"),
    ("priority 1", "N"),
    ("priority 1 high", "N"),
    ("drain", "no floor"),
    ("report", "no floor"),
    ("report --shift 8", "--shift"),
    ("audit", "verify"),
    ("audit verify", "no floor"),
    ("budget set", "WATTS"),
    ("budget set -5", "watts"),
    ("budget set 60 --for 3", "--for"),
    ("budget set 60 --at noon", "--at"),
    ("budget import nowhere.csv", "nowhere.csv"),
    ("budget list", "no floor"),
    ("budget forget", "forget"),
)


@pytest.mark.parametrize(("command", "named"), _MISTAKES, ids=[command for command, _ in _MISTAKES])
def test_a_mistake_ends_in_one_line_and_writes_nothing(
    command: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line names what is wrong, and the folder stays as it was."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    if command:
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert named in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("", "no rows"),
        ("a,b\n1,2\n", "header"),
        ("time_utc,budget_w\n", "no rows"),
        ("time_utc,budget_w\nnow,5\n", "row 2"),
        ("time_utc,budget_w\n2026-01-01T00:00Z,-5\n", "row 2"),
        ("time_utc,budget_w\n2026-01-01T00:00Z,nan\n", "row 2"),
        ("time_utc,budget_w\n2026-01-01T00:00Z,5\n2025-01-01T00:00Z,5\n", "row 3"),
        ("time_utc,budget_w\n2026-01-01T00:00Z\n", "row 2"),
    ],
)
def test_a_malformed_schedule_is_refused(
    rows: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row is named, and no floor is made."""
    file = tmp_path / "budget.csv"
    file.write_text(rows)
    with pytest.raises(SystemExit) as ended:
        main(["budget", "import", str(file), "--root", str(tmp_path / "floor")])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "floor").exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of an empty floor."""
    Store(tmp_path / "floor", create=True).close()
    return tmp_path / "floor"


def test_a_second_floor_is_refused_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The process that runs the floor is named."""
    with floor_lock.locked(root), pytest.raises(SystemExit) as ended:
        main(["run", "--root", str(root)])
    assert ended.value.code == 2
    assert f"process {floor_lock.owner(root)['pid']} on" in capsys.readouterr().err


def test_lines_of_another_engine_are_not_taken(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A floor that could neither see nor end them names them, and the engine to use."""
    with Store(root) as store:
        line = store.move(store.add_line(make_line()), LineState.STARTING, "starts")
        handle = Handle(engine="ray", host="elsewhere", pid=1, started=0.0, boot_id="b")
        store.add_attempt(
            Attempt(line=line.id, number=1, folder="f", handle=handle, started_at=0.0, steps_from=0)
        )
    with pytest.raises(SystemExit) as ended:
        main(["run", "--root", str(root)])
    assert ended.value.code == 2
    assert "--engine=local: lines 1 were started by the engine ray" in capsys.readouterr().err
    with Store(root) as store:
        assert store.line(line.id).state is LineState.STARTING


@pytest.mark.parametrize("command", ["status", "run", "submit seed=0 total_steps=1000", "report", "why 1"])
def test_a_damaged_store_is_named(root: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command says which file is damaged and what to do."""
    for path in root.glob("floor.db*"):
        path.unlink()
    (root / FILE).write_bytes(b"not a database" * 500)
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--root", str(root)])
    assert ended.value.code == 2
    assert "damaged" in capsys.readouterr().err


def test_a_store_from_the_future_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An older program leaves a newer store alone."""
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(SystemExit) as ended:
        main(["status", "--root", str(root)])
    assert ended.value.code == 2
    assert "newer version" in capsys.readouterr().err


def test_unknown_lines_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id that is not there is a mistake in every command about a line."""
    for command in ("why", "logs", "pause", "resume", "preempt", "cancel"):
        with pytest.raises(SystemExit) as ended:
            main([command, "7", "--root", str(root)])
        assert ended.value.code == 2
        assert "line 7" in capsys.readouterr().err


def test_status_is_json_while_nothing_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read the state of a floor that is stopped."""
    with pytest.raises(SystemExit) as ended:
        main(["status", "--json", "--root", str(root)])
    assert ended.value.code == 0
    state = json.loads(capsys.readouterr().out)
    assert state["floor"]["state"] == "stopped"
    assert state["lines"] == []
