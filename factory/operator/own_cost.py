"""CPU time of the operator itself: a row a minute in the floor's store, so that a shift can be added up."""

from __future__ import annotations

import time
from dataclasses import dataclass

from factory.floor.store import Store

_TABLE = """
CREATE TABLE IF NOT EXISTS operator_cost (
    at REAL PRIMARY KEY,
    seconds REAL NOT NULL,
    ticks INTEGER NOT NULL,
    cpu_s REAL NOT NULL,
    longest_s REAL NOT NULL
) STRICT
"""
PERIOD_S = 60.0


_TOTAL = "SELECT sum(ticks), sum(cpu_s), max(longest_s) FROM operator_cost"


class OwnCost:
    """Adds up ticks and writes a row for each minute of them."""

    def __init__(self, store: Store) -> None:
        """Use the table of a floor, which is made if it is not there."""
        self._store = store
        with store.transaction():
            store.execute(_TABLE)
        self.ticks = 0
        """Ticks of this process."""
        self.cpu_s = 0.0
        """CPU time of these ticks."""
        self.longest_s = 0.0
        """CPU time of the longest of them."""
        self._began_s: float | None = None
        self._row = (0, 0.0, 0.0)

    def add(self, spent_s: float, now_s: float) -> None:
        """Add a tick.

        Args:
            spent_s: its CPU time.
            now_s: monotonic time at its end.
        """
        self.ticks += 1
        self.cpu_s += spent_s
        self.longest_s = max(self.longest_s, spent_s)
        ticks, cpu_s, longest_s = self._row
        self._row = (ticks + 1, cpu_s + spent_s, max(longest_s, spent_s))
        if self._began_s is None:
            self._began_s = now_s
        if now_s - self._began_s >= PERIOD_S:
            self.write(now_s)

    def write(self, now_s: float) -> None:
        """Write the row of the ticks since the last one."""
        ticks, cpu_s, longest_s = self._row
        if self._began_s is None or ticks == 0:
            return
        with self._store.transaction():
            self._store.execute(
                "INSERT OR REPLACE INTO operator_cost (at, seconds, ticks, cpu_s, longest_s)"
                " VALUES (?, ?, ?, ?, ?)",
                time.time(),
                now_s - self._began_s,
                ticks,
                cpu_s,
                longest_s,
            )
        self._began_s = now_s
        self._row = (0, 0.0, 0.0)


def total(store: Store) -> dict[str, float]:
    """Return ticks, CPU time and the longest tick of all operators of a floor, as far as they are written."""
    known = "SELECT count(*) FROM sqlite_master WHERE name = 'operator_cost'"
    if not store.execute(known).fetchone()[0]:
        return {}
    (found,) = store.select(_Total, _TOTAL, name="operator_cost")
    if not found.ticks:
        return {}
    return {
        "ticks": float(found.ticks),
        "cpu_s": found.cpu_s or 0.0,
        "longest_tick_s": found.longest_s or 0.0,
    }


@dataclass(frozen=True, slots=True)
class _Total:
    """Columns of `_TOTAL`; empty without rows."""

    ticks: int | None
    cpu_s: float | None
    longest_s: float | None
