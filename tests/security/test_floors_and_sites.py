"""Exploits by a floor, a site or a line's run folder: names, numbers, databases and links in them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from floor_lines import make_line
from hostile_pages import ATTACK, assert_harmless
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_runs import make_measured_floor, make_measured_run

from factory.floor import progress
from factory.floor.command_line import main as floor
from factory.floor.lines import LineState
from factory.floor.page import write_page
from factory.floor.store import FILE, Store
from factory.operator.command import OperatorWatcher
from factory.operator.observe import prunable
from factory.operator.run_files import RunFiles
from factory.site import floor_workload, site_file
from factory.site.command_line import main as site
from factory.site.quantities import Scale
from factory.site.site_file import INPUTS

HUGE = 10**400
ESCAPE = "\x1b]0;owned\x07"
MARKUP = f"[/bold][link=http://evil]{ESCAPE}"


def run(command: Any, *arguments: str) -> int:
    """Run a command in this process and return its status."""
    with pytest.raises(SystemExit) as ended:
        command(list(arguments))
        raise SystemExit(0)
    return int(ended.value.code or 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a floor with one line that has failed, whose texts are an attack."""
    with Store(tmp_path / "floor", create=True) as store:
        line = store.add_line(
            make_line(name=MARKUP, owner=ATTACK, task=ATTACK, run_dir=str(tmp_path / "run"))
        )
        line = store.move(line, LineState.STARTING, "first")
        store.move(line, LineState.FAILED, f"{MARKUP}{ATTACK}")
        yield store


def test_texts_of_lines_are_no_markup_and_no_commands(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets do not end `status` with an error, and no sequence reaches the terminal."""
    for command in ("status", "why 1", "report", "grid list", "operator"):
        assert run(floor, *command.split(), "--root", str(store.root)) == 0
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err, command
    assert_harmless(write_page(store))


def test_database_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to another program's database, and views and triggers in a floor's, are refused unchanged."""
    other = tmp_path / "places.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE history (url TEXT)")
    before = other.read_bytes()
    root = tmp_path / "floor"
    root.mkdir()
    (root / FILE).symlink_to(other)
    assert run(floor, "status", "--root", str(root)) == 2
    assert other.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["floor", "places.sqlite"]

    (root / FILE).unlink()
    Store(root, create=True).close()
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS value, x AS key FROM n"
    )
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("DROP TABLE state")
        connection.execute(f"CREATE VIEW state AS {endless}")
    assert run(site, "project", f"from={root}", "mlflow=false") == 2
    assert "not the database of a floor" in capsys.readouterr().err


def test_floor_of_a_stranger_names_no_folder_outside(tmp_path: Path) -> None:
    """Runs are looked for below the floor, wherever its lines say they are; so a floor may be moved."""
    root = make_measured_floor(tmp_path / "floor")
    secret = make_measured_run(tmp_path / "private", value=1e9)
    with sqlite3.connect(root / FILE) as connection:
        connection.execute("UPDATE line SET run_dir = ? WHERE id = 1", (str(secret),))
    moved = root.rename(tmp_path / "moved")
    found = floor_workload.from_floor(moved, gate=None)
    assert [outcome.reason for outcome in found.outcomes] == ["finished", "", "failed"]


def test_damaged_values_of_a_strangers_floor_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows whose JSON is of another shape end the projection in one line."""
    root = make_measured_floor(tmp_path / "floor")
    shutil.copytree(root, tmp_path / "copy")
    changes = ("UPDATE line SET needs = '[]'", "UPDATE state SET value = '3' WHERE key = 'running'")
    for place, change in zip((root, tmp_path / "copy"), changes, strict=True):
        with sqlite3.connect(place / FILE) as connection:
            connection.execute(change)
        assert run(site, "project", f"from={place}", "mlflow=false", "allow_estimated=true") == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1) and str(place) in err


VALUES = st.one_of(
    st.sampled_from([HUGE, -HUGE, True, float("nan"), 1e308, 5e-324, None, "", [], {}, ATTACK, ESCAPE]),
    st.floats(),
    st.integers(),
)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["facility_w", "intent", "like", "inputs", "correlations", "range", "source", "pair"]),
    VALUES,
)
def test_any_value_in_a_site_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    """A site's file ends in a site or in one line."""
    plain: dict[str, Any] = {"like": "megawatt", "facility_w": 1e6}
    if key == "range":
        plain["inputs"] = {"pue": {"range": [1.01, 1.1, value], "source": "x"}}
    elif key == "source":
        plain["inputs"] = {"pue": {"range": [1.01, 1.1, 1.2], "source": value}}
    elif key == "pair":
        plain["correlations"] = [[value, "pue", 0.1], ["pue", "rate", value]]
    else:
        plain[key] = value
    path = tmp_path_factory.mktemp("site") / "a.yaml"
    path.write_text(yaml.safe_dump(plain))
    try:
        site_file.load(str(path))
    except ValueError as error:
        assert len(str(error)) < 20_000
    else:
        assert value is not True or key in ("intent", "source")


EDGES = {
    Scale.POSITIVE: (1e-9, 1.0, 1e9),
    Scale.SHARE: (1e-9, 0.5, 1.0 - 1e-9),
    Scale.ABOVE_ONE: (1.0 + 1e-9, 1.5, 1e9),
}


def test_extreme_sites_are_projected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ends of all ranges give numbers, or are refused; names and sources are text on the page."""
    run_dir = make_measured_run(tmp_path / "run")
    for place, is_high in enumerate((False, True)):
        inputs = {}
        for name, (scale, _) in INPUTS.items():
            low, typical, high = EDGES[scale]
            numbers = [low, typical, 1.001 * typical]
            if is_high:
                numbers = [0.999 * typical, typical, high]
            inputs[name] = {"range": numbers, "source": ATTACK}
        path = tmp_path / f"[red]{place}.yaml"
        path.write_text(yaml.safe_dump({"facility_w": 1e6, "intent": ATTACK, "inputs": inputs}))
    out = tmp_path / "both.json"
    both = [f"site={tmp_path / f'[red]{place}.yaml'}" for place in (0, 1)]
    arguments = ("compare", f"from={run_dir}", *both, f"out={out}", "mlflow=false", "num_draws=200")
    assert run(site, *arguments) == 0, capsys.readouterr().err
    assert "[red]0" in capsys.readouterr().out
    json.loads(out.read_text())
    assert_harmless(out.with_suffix(".html"))


ROWS = [
    "[" * 5000,
    '{"metrics": []}',
    '{"metrics": {"time/wall_s": true}}',
    json.dumps({"metrics": {"time/wall_s": HUGE, "factory/iterations": HUGE, "factory/env_steps": HUGE}}),
    json.dumps({"metrics": {"time/wall_s": 1.0}, "time_unix_s": "x"}),
    json.dumps({"metrics": {"time/wall_s": "x"}, "time_unix_s": [HUGE]}),
    "3",
    "",
]


def test_rows_of_a_line_do_not_end_its_floor(tmp_path: Path) -> None:
    """Nested, huge and misshapen rows count as none, for the floor and for the operator."""
    (tmp_path / "metrics.jsonl").write_text("\n".join(ROWS) + "\n")
    assert progress.read(tmp_path).tokens == 0
    files = RunFiles(tmp_path)
    files.read(0.0)
    assert not files.history.rows
    folder = tmp_path / "checkpoints" / "64"
    folder.mkdir(parents=True)
    (folder.parent / "last").symlink_to("64")
    (folder / "checksums.json").write_text('{"files": {"a": {"bytes": 1e999}}}')
    assert not files.checkpoint().is_whole


def test_pruning_deletes_nothing_outside_and_never_the_last(tmp_path: Path) -> None:
    """Links, and a `last` that is written in another way, do not make it delete what is needed."""
    archive = tmp_path / "archive"
    for name in ("32", "64"):
        (archive / name).mkdir(parents=True)
    (archive / "last").symlink_to("64")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "checkpoints").symlink_to(archive)
    own = tmp_path / "own" / "checkpoints"
    shutil.copytree(archive, own, symlinks=True)
    (own / "last").unlink()
    (own / "last").symlink_to("./64")
    (own / "96").symlink_to(archive / "32")
    lines = [make_line(run_dir=str(tmp_path / name)) for name in ("linked", "own", "missing")]
    assert prunable(lines) == [own / "32"]


def test_unforeseen_fault_of_the_operator_does_not_end_the_floor(store: Store) -> None:
    """Whatever the operator raises, the floor goes on, and it is written down once."""

    class Failing:
        def tick(self) -> None:
            raise AttributeError("a list has no keys")

    watcher = object.__new__(OperatorWatcher)
    watcher._store = store
    watcher._error = ""
    watcher._operator = Failing()  # type: ignore[assignment]
    watcher.tick()
    watcher.tick()
    assert [event.kind for event in store.events()].count("operator error") == 1
