"""The floor's store: transitions with their events, equal lines, damaged and foreign files."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from floor_lines import make_line

from factory.floor.lines import Attempt, ExitClass, Handle, LineState
from factory.floor.store import FILE, Store
from factory.floor.store_errors import StoreError, store_faults


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path, create=True)


def test_a_queued_line_is_read_back_as_it_was(store: Store) -> None:
    """Ids, times and the run folder are filled in; everything else stays."""
    added = store.add_line(make_line(deadline=17.5, owner="ann", flex=3))
    assert added.id == 1
    assert added.run_dir == "/floor/lines/1/run"
    assert added.created_at == added.state_since > 0
    assert store.line(1) == added
    assert replace(added, id=0, created_at=0.0, state_since=0.0, run_dir="") == make_line(
        deadline=17.5, owner="ann", flex=3, run_dir=""
    )


def test_a_line_moves_only_along_known_ways(store: Store) -> None:
    """A transition that does not exist, and one from a state that the line has left, are refused."""
    line = store.add_line(make_line())
    with pytest.raises(RuntimeError, match="cannot go from queued to running"):
        store.move(line, LineState.RUNNING, "runs")
    started = store.move(line, LineState.STARTING, "starts", attempts=1)
    assert (started.state, started.reason, started.attempts) == (LineState.STARTING, "starts", 1)
    with pytest.raises(RuntimeError, match="no longer queued"):
        store.move(line, LineState.CANCELLED, "cancelled")
    assert store.line(line.id) == started


def test_every_transition_has_its_event(store: Store) -> None:
    """The chain tells submission and moves, with reasons."""
    line = store.add_line(make_line())
    store.move(line, LineState.CANCELLED, "cancelled by a user", exit_class=ExitClass.KILLED)
    moved, submitted = store.events(line=line.id)
    assert submitted.kind == "submitted"
    assert moved.details == {
        "from": "queued",
        "to": "cancelled",
        "reason": "cancelled by a user",
        "exit_class": "killed",
    }
    assert store.verify_events() == 2


def test_a_failed_transaction_leaves_no_trace(store: Store) -> None:
    """A line and its event are written together or not at all."""
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.add_line(make_line())
        _ = 1 / 0
    assert store.lines() == []
    assert store.events() == []


@pytest.mark.parametrize("column", ["at", "kind", "line", "details", "previous", "digest"])
def test_a_changed_event_is_found(store: Store, column: str) -> None:
    """Whatever is changed in any row, the chain breaks."""
    for seed in range(3):
        store.add_line(make_line(name=f"line {seed}"))
    store.close()
    with sqlite3.connect(store.root / FILE) as connection:
        value = {"at": 1.0, "line": 9}.get(column, "changed")
        connection.execute(f"UPDATE event SET {column} = ? WHERE seq = 2", (value,))
    with Store(store.root) as changed, pytest.raises(ValueError, match="event 2 does not follow"):
        changed.verify_events()


def test_a_removed_event_is_found(store: Store) -> None:
    """Removing a row breaks the chain at the next one."""
    for _ in range(3):
        store.add_line(make_line())
    with sqlite3.connect(store.root / FILE) as connection:
        connection.execute("DELETE FROM event WHERE seq = 2")
    with pytest.raises(ValueError, match="event 3"):
        store.verify_events()


def test_equal_lines_are_found_unless_they_failed(store: Store) -> None:
    """A line that failed or was cancelled keeps nobody from another try."""
    line = store.add_line(make_line())
    assert store.find_equal(line.spec_hash) == line
    assert store.find_equal("b" * 64) is None
    store.move(line, LineState.FAILED, "failed")
    assert store.find_equal(line.spec_hash) is None


def test_attempts_are_read_back(store: Store) -> None:
    """Attempts keep process and outcome; a number is taken once."""
    line = store.add_line(make_line())
    handle = Handle(engine="local", host="h", pid=7, started=1.5, boot_id="b")
    attempt = Attempt(line=line.id, number=1, folder="/f", handle=None, started_at=2.0, steps_from=0)
    store.add_attempt(attempt)
    ended = replace(attempt, handle=handle, ended_at=3.0, exit_class=ExitClass.CRASH, steps_to=5)
    store.update_attempt(ended)
    assert store.last_attempt(line.id) == ended
    with pytest.raises(ValueError, match="UNIQUE"):
        store.add_attempt(attempt)


def test_orders_are_carried_out_once(store: Store) -> None:
    """An order waits until its outcome is written."""
    number = store.add_command("priority", line=3, priority=5)
    (command,) = store.pending_commands()
    assert (command.id, command.verb, command.line, command.arguments) == (
        number,
        "priority",
        3,
        {"priority": 5},
    )
    assert store.command_outcome(number) is None
    store.finish_command(command, "done")
    assert store.pending_commands() == []
    assert store.command_outcome(number) == "done"


def test_a_store_from_the_future_is_refused(store: Store) -> None:
    """A newer schema is named, with the remedy."""
    store.close()
    with sqlite3.connect(store.root / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="newer version of the factory"):
        Store(store.root)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\x00" * 400])
def test_a_damaged_store_is_refused(tmp_path: Path, content: bytes) -> None:
    """Files that are no SQLite, or a broken one, end in one line that says what to do."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged .*put back a copy"):
        Store(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system without room")
def test_a_full_disk_is_named() -> None:
    """SQLite speaks of an I/O error; the line says that the disk is full."""
    with (
        pytest.raises(StoreError, match=r"the disk is full; .*run the command again"),
        store_faults(Path("/proc/floor.db")),
    ):
        raise sqlite3.OperationalError("disk I/O error")


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Tables of others are not touched."""
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(ValueError, match="not the database of a floor"):
        Store(tmp_path, create=True)


def test_no_floor_is_made_by_looking(tmp_path: Path) -> None:
    """Opening a store that is not there names the folder and writes nothing."""
    with pytest.raises(ValueError, match="no floor there"):
        Store(tmp_path / "floor")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """A root that cannot be a folder ends in one line."""
    (tmp_path / "floor").write_text("")
    with pytest.raises(StoreError, match="floor"):
        Store(tmp_path / "floor", create=True)


def test_remaining_tokens_follow_the_tokens_of_a_step() -> None:
    """A step counts as one token until the first is done, then by the share so far; never below 0."""
    assert make_line(total_steps=1000).remaining_tokens == 1000.0
    assert make_line(total_steps=1000, steps=250, tokens=500).remaining_tokens == 1500.0
    assert make_line(total_steps=1000, steps=1024, tokens=1024).remaining_tokens == 0.0
