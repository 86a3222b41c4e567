"""The grid beside a floor that runs: messages, signals and rule take effect from tick to tick."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from factory.floor.bars import BAR
from factory.floor.engines import ENGINES
from factory.floor.lines import Line, LineState, Needs
from factory.floor.loop import Floor, NoWatcher
from factory.floor.rules import Rules
from factory.floor.store import Store
from factory.grid import intake, outgoing, rules, signals, watcher
from factory.grid.messages import LOAD_TARGET
from factory.grid.reporter import FILE
from factory.grid.rules import Rule
from factory.grid.signals import Kind, Point
from factory.grid.times import text_of


def test_floor_obeys_a_message_and_holds_background_lines(tmp_path: Path) -> None:
    """A file in the inbox is a target at the next tick; a queued line of flex 3 waits for a lower price."""
    now = time.time()
    message = {
        "specversion": "1.0.2",
        "id": "a",
        "source": "test",
        "type": LOAD_TARGET,
        "time": text_of(now),
        "data": {"targets": [{"interval": {}, "load_constraint": {"value": 1.0, "unit": "kilowatt"}}]},
    }
    known = {"task": "cartpole_swingup", "overrides": (), "spec_hash": "h", "total_steps": 1}
    with Store(tmp_path, create=True) as store:
        line = store.add_line(Line(id=0, name="x", flex=3, needs=Needs(cores=1.0, memory_bytes=1), **known))
        rules.write(store, Rule(below_price=0.1))
        signals.join(store, Kind.PRICE, [Point(now - 10.0, now + 3600.0, 0.3, now)])
        engine = ENGINES["local"](root=tmp_path, cores=1.0, address=None)
        floor = Floor(store, engine, Rules(), watch=watcher.beside(lambda floor: NoWatcher()))
        try:
            # The store keeps the bar of the grid from the first tick of its watcher on.
            floor.watcher.tick()
            intake.write_inbox(tmp_path, message, name="a")
            floor.tick()
            floor.tick()
            assert floor.budget().at(time.time()).limit_w == 1000.0
            assert store.line(line.id).state is LineState.QUEUED
            assert store.line(line.id).reason.startswith("waits for cheaper electricity: 0.3 USD/kWh")
            assert store.get(BAR).flex == 3
            # Electricity becomes cheap, by a value that was published later.
            signals.join(store, Kind.PRICE, [Point(now - 10.0, now + 3600.0, 0.05, now + 1.0)])
            floor.watcher.tick()
            assert store.get(BAR) is None
        finally:
            floor.watcher.close()
            floor.power.close()
            engine.close()
        rows = [json.loads(row) for row in (tmp_path / FILE).read_text().splitlines()]
        assert rows[0]["data"]["feeds"]["floor"]["event"] == "target_set"
        assert rows[0]["correlationid"] == outgoing.as_uuid("a")
        assert store.verify_events() > 0


def test_fault_of_the_inbox_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    """A file where the folder of refused messages should be does not end the floor."""
    with Store(tmp_path, create=True) as store:
        engine = ENGINES["local"](root=tmp_path, cores=1.0, address=None)
        floor = Floor(store, engine, Rules(), watch=watcher.beside(lambda floor: NoWatcher()))
        try:
            intake.write_inbox(tmp_path, {"specversion": "9"}, name="bad")
            (tmp_path / "grid" / "refused").write_text("in the way")
            path = tmp_path / "grid" / "inbox" / "bad.json"
            os.utime(path, (1.0, 1.0))
            floor.watcher.tick()
            floor.watcher.tick()
        finally:
            floor.power.close()
            engine.close()
        kinds = [event.kind for event in store.events()]
        assert kinds.count("grid error") == 1
