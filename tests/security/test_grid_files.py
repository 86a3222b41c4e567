"""Exploits by messages and files of a grid: none ends the floor, blocks others, or reads another file."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.floor.budget_commands import read_budget, targets
from factory.floor.command_line import main
from factory.floor.store import Store
from factory.grid import imports, intake, outgoing, server, signals, watcher
from factory.grid.messages import LOAD_TARGET, parse_event
from factory.grid.outgoing import FloorPower
from factory.grid.server import GridServer
from factory.grid.signals import Kind
from factory.grid.times import text_of

NOW = 1_795_700_000.0
HUGE = 10**400
ESCAPE = "\x1b]0;owned\x07"


def message(value: Any = 60.0, **changes: Any) -> dict[str, Any]:
    """Return a load target."""
    target = {"interval": {}, "load_constraint": {"value": value, "unit": "watt"}}
    plain = {"specversion": "1.0.2", "id": "a", "source": "b", "type": LOAD_TARGET, "time": text_of(NOW)}
    return plain | {"data": {"targets": [target]}} | changes


def openadr(value: Any, **period: Any) -> dict[str, Any]:
    """Return an event of OpenADR."""
    payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [value]}
    begin = {"start": "2026-11-26T14:00:00Z", **period}
    return {"eventName": "x", "intervals": [{"payloads": [payload]}], "intervalPeriod": begin}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the store of a new floor."""
    with Store(tmp_path / "floor", create=True) as store:
        yield store


def put(path: Path, content: Any) -> Path:
    """Write a file that nobody is still writing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, (NOW, NOW))
    return path


LEAVES = st.one_of(
    st.sampled_from(
        [HUGE, -HUGE, 1e308, float("nan"), float("inf"), True, None, "", "\ud800", ESCAPE, "P1D"]
    ),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-26T14:00:00Z"]),
    st.integers(),
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)
PATHS = [
    ("id",),
    ("source",),
    ("time",),
    ("specversion",),
    ("correlationid",),
    ("data",),
    ("data", "targets"),
    ("data", "targets", 0),
    ("data", "targets", 0, "interval"),
    ("data", "targets", 0, "interval", "start_time"),
    ("data", "targets", 0, "interval", "end_time"),
    ("data", "targets", 0, "load_constraint"),
    ("data", "targets", 0, "load_constraint", "value"),
    ("data", "targets", 0, "load_constraint", "unit"),
    ("data", "targets", 0, "feed_tags"),
    ("data", "targets", 0, "strategy"),
    ("intervals", 0, "payloads", 0, "values"),
    ("intervals", 0, "payloads", 0, "type"),
    ("intervalPeriod", "start"),
    ("intervalPeriod", "duration"),
    ("payloadDescriptors",),
    ("modificationDateTime",),
]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(PATHS), VALUES)
def test_any_value_anywhere_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    """No value of a message or an event has another effect than a target or one line."""
    plain: Any = message() if place[0] in message() or place[0] == "correlationid" else openadr(5.0)
    inner = plain
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    folder = tmp_path_factory.mktemp("floor")
    path = put(folder / "file", plain)
    with Store(folder, create=True) as store:
        try:
            imports.import_file(store, path, now=NOW, is_forecast=False)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
        _look_at(store)


def _look_at(store: Store) -> None:
    """Let the floor describe and report its budget, as it does in every tick."""
    read_budget(store).describe(NOW)
    power = FloorPower(now=NOW, power_w=1.0, limit_w=2.0, idle_w=0.5, most_w=3.0)
    state = outgoing.power_state(power, targets(store), feed="floor", event="periodic", since=None)
    json.dumps(state, allow_nan=False)


@pytest.mark.parametrize("duration", ["P8000Y", "P9999Y", f"P{'9' * 60}Y"])
def test_interval_beyond_every_calendar_has_no_end(store: Store, tmp_path: Path, duration: str) -> None:
    """A date that no calendar knows would end each later start of the floor."""
    imports.import_file(
        store, put(tmp_path / "a", openadr(5.0, duration=duration)), now=NOW, is_forecast=False
    )
    assert [target.end for target in targets(store)] == [None]
    _look_at(store)


def test_message_from_the_future_is_refused_in_every_format(store: Store, tmp_path: Path) -> None:
    """It would win over all that follow; a table's own date is at most the present."""
    later = "2199-01-01T00:00:00Z"
    future = [
        openadr(5.0) | {"modificationDateTime": later},
        {"zone": "DE", "carbonIntensity": 5, "datetime": "2026-11-26T14:00:00Z", "updatedAt": later},
    ]
    for plain in future:
        with pytest.raises(ValueError, match="ahead of this machine"):
            imports.import_file(store, put(tmp_path / "a", plain), now=NOW, is_forecast=False)
    path = put(tmp_path / "prices.csv", "time_utc,usd_per_kwh\n2026-11-26T14:00Z,0.1\n")
    os.utime(path, (4e9, 4e9))
    imports.import_file(store, path, now=NOW, is_forecast=False)
    assert [point.issued for point in signals.read(store, Kind.PRICE).points] == [NOW]


def test_long_ids_and_blanks_in_them_are_different_messages() -> None:
    """Ids that begin alike, or that read alike when joined, do not swallow each other's messages."""
    long = "x" * 200
    pairs = [("a b", "c"), ("a", "b c"), ("a", f"{long}1"), ("a", f"{long}2")]
    events = [parse_event(json.dumps(message(source=source, id=name)).encode()) for source, name in pairs]
    assert len({event.key for event in events}) == len(pairs)


def test_inbox_is_not_blocked_by_odd_entries(store: Store, tmp_path: Path) -> None:
    """Links, pipes, numbers beyond all floats, dates in the future and a name of 255 bytes hold nobody up."""
    folder = intake.inbox(store.root)
    folder.mkdir(parents=True)
    for number in range(150):
        (folder / f"0{number:03}.json").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "1.json")
    put(folder / "2.json", message(HUGE))
    os.utime(put(folder / "3.json", "{"), (4e9, 4e9))
    put(folder / f"{'4' * 250}.json", "{")
    put(folder / f"5{ESCAPE}.json", "{")
    put(folder / "9.json", message(50.0))
    said = intake.take_inbox(store, now=NOW)
    assert said[-1] == "9.json: 1 targets set"
    assert [line for line in said if "refused" in line and "\x1b" not in line] == said[:-1]
    assert intake.take_inbox(store, now=NOW) == []


def test_file_that_cannot_be_moved_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that belongs to somebody else stays where it is; those behind it are taken, and it is named."""
    for name in ("1", "2"):
        intake.write_inbox(store.root, message(id=name), name=name)
    put_away = intake._put_away

    def refuse(path: Path, name: str) -> Path:
        if path.name == "1.json":
            raise PermissionError(1, "not yours", str(path))
        return put_away(path, name)

    monkeypatch.setattr(intake, "_put_away", refuse)
    with pytest.raises(PermissionError, match=r"1\.json"):
        intake.take_inbox(store, now=NOW)
    assert len(targets(store)) == 2


def test_link_that_takes_the_place_of_a_file_is_not_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look into the folder and the reading, a file becomes a link to a secret."""
    secret = put(tmp_path / "secret", json.dumps({"specversion": "secret"}))
    path = put(intake.inbox(store.root) / "1.json", message())
    listed = intake._files(path.parent)
    path.unlink()
    path.symlink_to(secret)
    monkeypatch.setattr(intake, "_files", lambda folder: listed)
    (line,) = intake.take_inbox(store, now=NOW)
    assert line == "1.json: refused: 1.json: no plain file"
    assert secret.read_text() == json.dumps({"specversion": "secret"})


def test_unforeseen_fault_does_not_end_the_floor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised in one part of a tick, the others go on, and it is written down once."""
    done: list[str] = []

    def fail(store: Store, *, now: float) -> list[str]:
        raise AssertionError(f"a mistake {ESCAPE}")

    class Watched(watcher.GridWatcher):
        def _settle(self, now: float) -> None:
            done.append("settled")

        def _report(self, now: float) -> None:
            done.append("reported")

    class Floor:
        pass

    floor: Any = Floor()
    floor.store = store
    monkeypatch.setattr(intake, "take_inbox", fail)
    watched = Watched(floor)
    watched.tick()
    watched.tick()
    assert done == ["settled", "reported"] * 2
    assert [event.kind for event in store.events()].count("grid error") == 1


@pytest.mark.parametrize("command", ["grid import", "budget import"])
def test_pipes_are_not_waited_for(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A named pipe in place of a file ends the command in one line."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), str(tmp_path / "pipe"), "--root", str(tmp_path / "floor")])
    assert ended.value.code == 2
    assert "pipe" in capsys.readouterr().err
    assert not (tmp_path / "floor" / "grid").exists()


def test_table_of_millions_of_rows_is_refused(store: Store, tmp_path: Path) -> None:
    """Short rows take a multiple of their text in memory."""
    path = put(tmp_path / "rows.csv", "time_utc,usd_per_kwh\n" + ",\n" * 200_001)
    with pytest.raises(ValueError, match="give a shorter table"):
        imports.import_file(store, path, now=NOW, is_forecast=False)


@pytest.fixture
def port(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the port of an endpoint with short time limits."""
    monkeypatch.setattr(server, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 3)
    with GridServer(store.root, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join(60.0)


def status(port: int, body: bytes, **headers: str) -> int:
    """Send a message and return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("POST", "/events", body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_endpoint_answers_whatever_comes(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Lengths of thousands of digits, huge numbers, broken connections and names of other hosts."""
    body = json.dumps(message(HUGE)).encode()
    assert status(port, body) == 400
    assert status(port, b"", **{"Content-Length": "9" * 5000}) == 413
    assert status(port, b"", **{"Content-Length": "-1"}) == 411
    for host in ("evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "[::1]:80", ""):
        assert status(port, body, Host=host) == 403
    assert status(port, body, Origin="null") == 403
    with socket.create_connection(("127.0.0.1", port)) as broken:
        broken.sendall(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
        # The connection is reset, not closed.
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


def test_slow_senders_do_not_keep_the_endpoint(port: int) -> None:
    """A byte now and then keeps a connection only so long, and too many of them are turned away."""
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    begun_s = time.monotonic()
    open_ones = list(slow)
    while open_ones and time.monotonic() - begun_s < 5.0:
        time.sleep(0.1)
        for one in list(open_ones):
            try:
                one.sendall(b"P")
            except OSError:
                open_ones.remove(one)
    assert not open_ones and time.monotonic() - begun_s < 3.0
    assert status(port, json.dumps(message(time=text_of(time.time()))).encode()) == 202
    for one in slow:
        one.close()
