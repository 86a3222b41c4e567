"""Floors whose store holds one wrong value: every command works or ends in one line."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from damaged_stores import DamagedStores, Place

from factory.floor import commands, runner
from factory.floor.command_line import main as floor
from factory.floor.engines.local import LocalEngine
from factory.floor.lines import Needs
from factory.floor.store import FILE
from factory.site.command_line import main as site

READING = (
    "status",
    "status --json",
    "why 1 --json",
    "logs 1",
    "report",
    "report --json",
    "operator",
    "operator --json",
    "audit verify",
    "budget list",
    "grid list",
    "grid costs",
    "grid costs --json",
    "sweep status",
    "sweep status --json",
    "ask costliest --json",
    "ask history line=1",
    "ask done hours=90000",
    "ask cost_by_hour --json",
)
CHANGING = (
    "budget set 50",
    "grid rule --flex 2",
    "grid feed other",
    "approve 1",
    "pause 1",
    "sweep cancel 1",
    "run --operator auto",
)
PROJECTION = "project"
_ERROR = re.compile(r"error: .*\n")


class StillEngine(LocalEngine):
    """Starts no process."""

    def start(self, folder: Path, needs: Needs) -> None:
        """Do nothing."""


@pytest.fixture
def quick_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `run` end after two ticks, without a process."""
    ticks: list[int] = []

    def wait(floor: Any, stop: Any, duration_s: float) -> None:
        ticks.append(1)
        if len(ticks) % 2 == 0:
            stop.set()

    monkeypatch.setattr(runner, "_wait", wait)
    monkeypatch.setitem(commands.ENGINES, "local", lambda **_: StillEngine(cores=2.0))


def check(command: str, root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command on a floor, and return what is wrong with its end; empty if nothing is."""
    try:
        with pytest.raises(SystemExit) as ended:
            if command == PROJECTION:
                site(["project", f"from={root}", "mlflow=false", "allow_estimated=true"])
            else:
                floor([*command.split(), "--root", str(root)])
    except BaseException as error:
        capsys.readouterr()
        return f"{type(error).__name__}: {error!s:.200}"
    status = ended.value.code or 0
    out, err = capsys.readouterr()
    is_run = command.startswith("run")
    if status == 0 or (is_run and status in (1, 130) and not err):
        if "--json" in command:
            json.loads(out, parse_constant=_refuse)
        return ""
    if status not in (1, 2) or not _ERROR.fullmatch(err) or not err[:-1].isprintable():
        return f"status {status}: {err!r}"
    return ""


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> DamagedStores:
    """Return a floor of which damaged copies are made."""
    return DamagedStores(tmp_path_factory.mktemp("floor"))


@pytest.mark.slow
def test_a_wrong_value_in_a_store_is_one_line(
    stores: DamagedStores, quick_floor: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every 61st pair of a place and a wrong value, with one command each: no traceback, no odd status."""
    cases: list[tuple[Place, Any]] = [
        (place, value) for place in stores.places for value in stores.bad_values(place)
    ]
    commands_in_turn = (*READING, *CHANGING, PROJECTION)
    wrong: list[str] = []
    for number, (place, value) in enumerate(cases[::61]):
        command = commands_in_turn[number % len(commands_in_turn)]
        found = check(command, stores.damaged(place, value), capsys)
        if found:
            wrong.append(f"{command}, {place} = {value!r:.40}: {found}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE line SET needs = '[]'", "line 1: needs"),
        ("UPDATE line SET state = 'nowhere' WHERE id = 2", "line 2: state: 'nowhere' is none of queued"),
        ("UPDATE line SET tokens = -1 WHERE id = 3", "line 3: tokens: -1 is not in"),
        ("UPDATE line SET joules = 9e999", "line 1: joules: inf is not in"),
        ("UPDATE state SET value = '{\"tier\": 3}' WHERE key = 'running'", "running: tier: 3 is no text"),
        ("UPDATE state SET value = '{}' WHERE key = 'books'", "books: node_j is missing"),
    ],
)
def test_the_place_is_named_with_the_remedy(
    stores: DamagedStores, statement: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which store, which row, which value, and what to do."""
    root = stores.damaged(Place("line", 1, "name"), "whole")
    with sqlite3.connect(root / FILE) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(SystemExit) as ended:
        floor(["status", "--root", str(root)])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert f"{root / FILE}: damaged ({named}" in err and "put back a copy" in err


def test_a_whole_store_is_read_by_all_commands(
    stores: DamagedStores, quick_floor: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The floor of these tests is sound: nothing is refused before a value is wrong."""
    for command in (*READING, "run"):
        root = stores.damaged(Place("line", 1, "owner"), "bob")
        with pytest.raises(SystemExit) as ended:
            floor([*command.split(), "--root", str(root)])
        assert ended.value.code in (None, 0, 130), (command, capsys.readouterr().err)
