"""The operator beside a floor counts its own CPU time, minute by minute, up to its end."""

from __future__ import annotations

from pathlib import Path

from factory.floor.engines import ENGINES
from factory.floor.loop import Floor
from factory.floor.rules import Rules
from factory.floor.store import Store
from factory.operator.command import watching
from factory.operator.config import OperatorConfig
from factory.operator.own_cost import OwnCost, total
from factory.operator.words import Mode


def test_ticks_beside_a_floor_are_counted(tmp_path: Path) -> None:
    """Three ticks and the end leave one row, with CPU time that was spent."""
    with Store(tmp_path, create=True) as store:
        engine = ENGINES["local"](root=tmp_path, cores=1.0, address=None)
        floor = Floor(store, engine, Rules(), watch=watching(OperatorConfig(), Mode.OBSERVE))
        try:
            for _ in range(3):
                floor.watcher.tick()
            assert store.execute("SELECT count(*) FROM operator_cost").fetchone() == (0,)
            assert total(store) == {}
            floor.watcher.close()
            ((ticks, cpu_s, longest_s),) = store.execute("SELECT ticks, cpu_s, longest_s FROM operator_cost")
            written = total(store)
        finally:
            floor.power.close()
            engine.close()
    assert ticks == 3
    assert written == {"ticks": 3.0, "cpu_s": cpu_s, "longest_tick_s": longest_s}
    assert 0.0 < cpu_s / 3.0 <= longest_s < cpu_s


def test_every_minute_has_a_row(tmp_path: Path) -> None:
    """Ticks of two minutes and a half lead to two rows, and to a third one at the end."""
    with Store(tmp_path, create=True) as store:
        own = OwnCost(store)
        for second in range(151):
            own.add(0.001, float(second))
        own.write(150.0)
        rows = store.execute("SELECT seconds, ticks FROM operator_cost ORDER BY at").fetchall()
    assert rows == [(60.0, 61), (60.0, 60), (30.0, 30)]
    assert own.ticks == 151
