"""Messages of the grid: the schema holds, and what is wrong, late, or comes twice changes nothing."""

from __future__ import annotations

import copy
import http.client
import json
import os
import threading
import time
import uuid
from math import inf
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import factory.grid
from factory.floor.budget import Target
from factory.floor.budget_commands import TARGETS, add_targets, budget_version, read_budget, targets
from factory.floor.budget_input import make_target
from factory.floor.lines import Line, LineState, Needs
from factory.floor.store import Store
from factory.grid import intake, outgoing, reporter
from factory.grid.messages import BREACH, ENFORCEMENT, LOAD_TARGET, POWER_STATE, load_targets, parse_event
from factory.grid.outgoing import FloorPower
from factory.grid.reporter import ReportState
from factory.grid.server import GridServer
from factory.grid.times import text_of

NOW = 1_795_700_000.0
HOUR = 3600.0
SCHEMA = json.loads((Path(factory.grid.__file__).parent / "dsx_flex.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def named(name: str) -> str:
    """Return the UUID that stands for a short name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def load_target(
    watts: float | None = 60.0,
    *,
    name: str = "a",
    made: float = NOW,
    start: float | None = NOW,
    end: float | None = NOW + HOUR,
    unit: str = "watt",
    **target: Any,
) -> dict[str, Any]:
    """Return a message with one target."""
    interval = {}
    if start is not None:
        interval["start_time"] = text_of(start)
    if end is not None:
        interval["end_time"] = text_of(end)
    constraint = None
    if watts is not None:
        constraint = {"value": watts, "unit": unit}
    return {
        "specversion": "1.0.2",
        "id": named(name),
        "source": "//grid/v1/isv/test",
        "type": LOAD_TARGET,
        "time": text_of(made),
        "datacontenttype": "application/json",
        "subject": "loadtarget",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "data": {"targets": [{"interval": interval, "load_constraint": constraint, **target}]},
    }


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """Return the store of a new floor."""
    with Store(tmp_path / "floor", create=True) as store:
        yield store


def take(store: Store, plain: dict[str, Any], *, now: float = NOW) -> str:
    """Take a message as it comes over the wire."""
    return intake.take_bytes(store, json.dumps(plain).encode(), now=now)


def watts_at(store: Store, time_s: float) -> float:
    """Return the budget at a moment."""
    return read_budget(store).at(time_s).limit_w


def test_target_is_a_step_of_the_budget_in_a_half_open_interval(store: Store) -> None:
    """It holds from its start until just before its end; kilowatts are watts."""
    plain = load_target(0.06, unit="kilowatt")
    VALIDATOR.validate(plain)
    assert take(store, plain) == "1 targets set"
    at = [watts_at(store, time_s) for time_s in (NOW - 1, NOW, NOW + HOUR - 1, NOW + HOUR)]
    assert at == [inf, 60.0, 60.0, inf]
    store.verify_events()


def test_latest_message_wins_in_whatever_order_they_arrive(tmp_path: Path) -> None:
    """Of overlapping targets the one made last counts at any moment, also if it arrives first."""
    first = load_target(100.0, name="1", made=NOW - 30.0)
    second = load_target(50.0, name="2", made=NOW - 20.0, start=NOW + 600.0, end=NOW + 1200.0)
    third = load_target(80.0, name="3", made=NOW - 10.0, start=NOW + 900.0)
    seen = []
    for place, order in enumerate(([first, second, third], [third, first, second], [second, third, first])):
        with Store(tmp_path / str(place), create=True) as store:
            for plain in order:
                take(store, plain)
            seen.append([watts_at(store, NOW + offset) for offset in (0.0, 600.0, 899.0, 900.0, 1300.0)])
    assert seen[0] == seen[1] == seen[2] == [100.0, 50.0, 50.0, 80.0, 80.0]


def test_null_takes_a_target_back_and_no_end_means_until_replaced(store: Store) -> None:
    """A target without an end holds until the next one; null lifts it."""
    take(store, load_target(40.0, name="open", made=NOW - 5.0, start=None, end=None))
    assert watts_at(store, NOW + 1e6) == 40.0
    take(store, load_target(None, name="null", start=NOW + 60.0, end=None))
    assert (watts_at(store, NOW + 59.0), watts_at(store, NOW + 60.0)) == (40.0, inf)


def test_target_without_best_effort_is_hard(store: Store) -> None:
    """Lines of flex 0 are shed for a target that has to be met, which is the default, until a milder one."""
    take(store, load_target(40.0))
    assert read_budget(store).at(NOW).hard_w == 40.0
    milder = load_target(30.0, name="b", made=NOW + 1.0, start=NOW + 60.0, strategy={"best_effort": True})
    take(store, milder, now=NOW + 1.0)
    limit = read_budget(store).at(NOW + 60.0)
    assert (limit.limit_w, limit.hard_w) == (30.0, inf)


def test_grid_and_user_share_the_budget(store: Store) -> None:
    """A target set by hand after a message replaces it, and the other way round."""
    take(store, load_target(40.0))
    add_targets(store, [make_target("70", now=NOW + 10.0)], now=NOW + 10.0)
    assert watts_at(store, NOW + 20.0) == 70.0
    take(store, load_target(50.0, name="b", made=NOW + 30.0), now=NOW + 30.0)
    assert watts_at(store, NOW + 40.0) == 50.0
    assert [target.source for target in targets(store)] == [
        f"grid {named('a')}",
        "target",
        f"grid {named('b')}",
    ]


def test_messages_that_change_nothing(store: Store) -> None:
    """Duplicates, messages that are over, and those for another feed leave the budget alone."""
    first = load_target(60.0)
    take(store, first)
    before = (store.get(TARGETS), budget_version(store))
    twice = copy.deepcopy(first)
    twice["data"]["targets"][0]["load_constraint"]["value"] = 10.0
    over = load_target(10.0, name="late", made=NOW - 2 * HOUR, start=NOW - 2 * HOUR, end=NOW)
    other = load_target(10.0, name="other", feed_tags=["hall-7"])
    assert take(store, first, now=NOW + 5.0) == "taken before; nothing changed"
    assert take(store, twice, now=NOW + 5.0) == "taken before; nothing changed"
    assert take(store, over) == "already over; nothing changed"
    assert take(store, other) == "not for the feed floor; nothing changed"
    assert (store.get(TARGETS), budget_version(store)) == before
    late = load_target(
        20.0, name="half", made=NOW - HOUR, start=NOW - HOUR, end=NOW + 10.0, feed_tags=["floor"]
    )
    take(store, late)
    # It was made before the other one, which goes on to count.
    assert watts_at(store, NOW + 5.0) == 60.0


def broken(path: str, value: Any) -> dict[str, Any]:
    """Return a message with one value replaced; `...` removes it."""
    plain = load_target()
    place: Any = plain
    *parents, last = path.split("/")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return plain


T = "data/targets/0/"
MALFORMED = [
    broken("specversion", "0.3"),
    broken("specversion", ...),
    broken("id", ""),
    broken("id", 7),
    broken("source", ...),
    broken("type", "grid.loadtarget.set.v2"),
    broken("time", "yesterday"),
    broken("time", "2026-11-26T14:00:00"),
    broken("time", 1795700000),
    broken("datacontenttype", "text/xml"),
    broken("data", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"),
    broken("data", {"targets": []}),
    broken("data", {"targets": {}}),
    broken(f"{T}interval", ...),
    broken(f"{T}interval", "now"),
    broken(f"{T}interval/start_time", "1026-11-26T14:00:00Z"),
    broken(f"{T}load_constraint", ...),
    broken(f"{T}load_constraint", 60),
    broken(f"{T}load_constraint/value", -1.0),
    broken(f"{T}load_constraint/value", "60"),
    broken(f"{T}load_constraint/value", True),
    broken(f"{T}load_constraint/unit", "horsepower"),
    broken(f"{T}feed_tags", "floor"),
    broken(f"{T}strategy", {"best_effort": "yes"}),
]


@pytest.mark.parametrize("plain", MALFORMED)
def test_malformed_messages_are_refused_by_schema_and_floor(store: Store, plain: dict[str, Any]) -> None:
    """Each is refused in one line, and the store is as before."""
    before = list(store.events())
    assert VALIDATOR.is_valid(load_target())
    assert not VALIDATOR.is_valid(plain)
    with pytest.raises(ValueError) as caught:
        take(store, plain)
    assert "\n" not in str(caught.value)
    assert list(store.events()) == before
    assert targets(store) == []


def test_messages_that_no_schema_can_refuse(store: Store) -> None:
    """Ends before starts, clocks far ahead, bytes that are no JSON, and one bad target among good ones."""
    backwards = load_target(start=NOW + 10.0, end=NOW)
    with pytest.raises(ValueError, match="must be after the start"):
        take(store, backwards)
    with pytest.raises(ValueError, match="ahead of this machine"):
        take(store, load_target(made=NOW + 3600.0))
    for content in (b"", b"[]", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b" " * (1 << 21)):
        with pytest.raises(ValueError):
            intake.take_bytes(store, content, now=NOW)
    mixed = load_target()
    mixed["data"]["targets"].append({"interval": {}, "load_constraint": {"value": 1, "unit": "watts"}})
    with pytest.raises(ValueError, match=r"targets\[1\].load_constraint.unit"):
        take(store, mixed)
    assert targets(store) == []


def test_inbox_takes_files_once_and_puts_bad_ones_away(store: Store, tmp_path: Path) -> None:
    """Good files go to `taken`, old bad ones to `refused` with the reason; links are left alone."""
    folder = intake.inbox(store.root)
    folder.mkdir(parents=True)
    intake.write_inbox(store.root, load_target(60.0), name="1")
    (folder / "2.json").write_text("{")
    (folder / "3.json").symlink_to(tmp_path / "elsewhere.json")
    said = intake.take_inbox(store, now=NOW)
    assert said[0] == "1.json: 1 targets set"
    # It may be half written; after two seconds it is no longer.
    assert "it is read again" in said[1]

    os.utime(folder / "2.json", (NOW - 60.0, NOW - 60.0))
    assert intake.take_inbox(store, now=NOW)[0].startswith("2.json: refused: event")
    grid = store.root / "grid"
    assert sorted(path.name for path in (grid / "refused").iterdir()) == ["2.json", "2.reason"]
    assert [path.name for path in (grid / "taken").iterdir()] == ["1.json"]
    assert watts_at(store, NOW) == 60.0


def ask(port: int, body: bytes, **headers: str) -> tuple[int, str]:
    """Send a message to the endpoint and return status and outcome."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    kinds = {"Content-Type": "application/cloudevents+json"}
    try:
        connection.request("POST", "/events", body, {**kinds, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["outcome"]
    finally:
        connection.close()


def test_endpoint_on_loopback_takes_messages(tmp_path: Path) -> None:
    """A message sets a target; what comes from a page in a browser, or is wrong, is refused."""
    now = time.time()
    with Store(tmp_path, create=True):
        pass
    with GridServer(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            port = server.server_port
            good = json.dumps(load_target(60.0, made=now, start=now, end=now + HOUR)).encode()
            assert ask(port, good) == (202, "1 targets set")
            assert ask(port, good) == (202, "taken before; nothing changed")
            assert ask(port, b"{")[0] == 400
            assert ask(port, good, Origin="http://evil.example")[0] == 403
            assert ask(port, good, Host="evil.example")[0] == 403
            assert ask(port, good, **{"Content-Type": "text/plain"})[0] == 415
            assert ask(port, b"", **{"Content-Length": str(1 << 30)})[0] == 413
        finally:
            server.shutdown()
            thread.join(60.0)
    with Store(tmp_path) as store:
        assert watts_at(store, now + 1.0) == 60.0


def line(number: int, state: LineState, *, flex: int = 1) -> Line:
    """Return a line."""
    needs = Needs(cores=1.0, memory_bytes=1)
    known = {"name": "x", "task": "cartpole_swingup", "overrides": (), "spec_hash": "h", "total_steps": 1}
    return Line(id=number, needs=needs, flex=flex, state=state, **known)


def test_floor_reports_an_event_from_its_target_to_its_end(store: Store) -> None:
    """Target, ramp down, breach, escalation, enforcement, ramp up: all are as the schema says."""
    running = [line(1, LineState.RUNNING, flex=0), line(2, LineState.RUNNING, flex=3)]
    shed = [running[0], line(2, LineState.PAUSED, flex=3)]
    take(store, load_target(20.0, start=NOW + 10.0))
    known = targets(store)
    state = ReportState()
    kinds: list[str] = []
    for second in range(100):
        at = NOW + second
        inside = 10 <= second < 90
        limit_w = 20.0 if inside else inf
        # Its power falls to slightly too much, then to far too much, then below the target.
        power_w = 23.0 if second < 14 else 26.0 if second < 20 else 12.0 if second < 93 else 23.0
        lines = shed if 20 <= second < 93 else running
        power = FloorPower(now=at, power_w=power_w, limit_w=limit_w, idle_w=7.0, most_w=30.0)
        state = reporter.advance(state, power, known, lines, feed="floor")
        reporter.write(state, store.root, name="floor-1", now=at)
    messages = [json.loads(row) for row in (store.root / reporter.FILE).read_text().splitlines()]
    for message in messages:
        VALIDATOR.validate(message)
        body = message["data"]
        if message["type"] == POWER_STATE:
            kinds.append(body["feeds"]["floor"]["event"])
        elif message["type"] == BREACH:
            kinds.append(f"{body['status']} {body['severity']}")
        else:
            assert message["type"] == ENFORCEMENT
            kinds.append("enforcement")
    assert kinds == [
        "target_set",
        "start_ramp_down",
        "active warning",
        "escalated critical",
        "end_ramp_down",
        "resolved warning",
        "enforcement",
        "periodic",
        "start_ramp_up",
        "end_ramp_up",
    ]
    alert = next(message for message in messages if message["type"] == BREACH)
    assert [hint["resource_id"] for hint in alert["data"]["shed_hints"]] == ["line-2"]
    assert alert["data"]["target"]["correlation_id"] == named("a")
    states = [message["data"]["feeds"]["floor"] for message in messages if message["type"] == POWER_STATE]
    assert [state["in_flight"] for state in states] == [False, True, False, False, True, False]
    assert [state["targets"][0]["active"] for state in states[:3]] == [False, True, True]
    done = next(message for message in messages if message["type"] == ENFORCEMENT)
    assert done["source"] == "//grid/v1/infra/floor-1"
    assert (done["data"]["action"], done["data"]["code"]) == ("applied", "success")
    assert [(one["resource_id"], one["code"]) for one in done["data"]["results"]] == [
        ("line-1", "skipped"),
        ("line-2", "applied"),
    ]
    assert len({message["id"] for message in messages}) == len(messages)


def test_floor_without_a_grid_reports_nothing(store: Store) -> None:
    """Budgets set by hand are nobody else's business."""
    add_targets(store, [make_target("5", now=NOW)], now=NOW)
    power = FloorPower(now=NOW, power_w=23.0, limit_w=5.0, idle_w=7.0, most_w=30.0)
    state = reporter.advance(ReportState(), power, targets(store), [], feed="floor")
    assert state.messages == ()
    assert outgoing.severity(power) == "critical"


def test_of_overlapping_targets_one_is_enforced() -> None:
    """The latest whose interval it is is active; a name that is no UUID stands for one that never changes."""
    known = [
        Target(watts=50.0, start=NOW, end=None, source=f"grid {named('a')}", issued=NOW),
        Target(watts=40.0, start=NOW, end=NOW + 60.0, source="grid evening peak", issued=NOW + 1.0),
    ]
    seen = []
    for at in (NOW + 30.0, NOW + 60.0):
        power = FloorPower(now=at, power_w=23.0, limit_w=50.0, idle_w=7.0, most_w=30.0)
        message = outgoing.power_state(power, known, feed="floor", event="periodic", since=None)
        targets_now = message["data"]["feeds"]["floor"]["targets"]
        seen.append([target["active"] for target in targets_now])
        plain = outgoing.envelope(message["type"], message["data"], name="f", now=at, correlation="peak")
        VALIDATOR.validate(plain)
        assert [target["correlation_id"] for target in targets_now] == [named("a"), named("evening peak")]
    assert seen == [[False, True], [True, False]]


def test_targets_of_a_message_are_read(store: Store) -> None:
    """All fields of a target reach the floor."""
    plain = load_target(1.5, unit="megawatt", feed_tags=["a", "b"], strategy={"best_effort": False})
    (found,) = load_targets(parse_event(json.dumps(plain).encode()))
    assert (found.watts, found.feeds, found.is_hard) == (1.5e6, ("a", "b"), True)
    assert (found.start, found.end) == (NOW, NOW + HOUR)
