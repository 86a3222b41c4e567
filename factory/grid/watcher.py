"""The grid beside a floor that runs: takes messages, charges costs, applies the rule, reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from factory.energy.config import SiteConfig
from factory.floor.bars import BAR
from factory.floor.budget_commands import targets
from factory.floor.lines import ACTIVE, LineState, Needs
from factory.floor.loop import Watcher
from factory.floor.records import Command
from factory.floor.store_errors import StoreError
from factory.grid import costs, intake, reporter, rules, signals
from factory.grid.outgoing import FloorPower
from factory.grid.reporter import ReportState
from factory.grid.signals import Kind, Reading, Signal
from factory.runtime.decoding import decode

if TYPE_CHECKING:
    from factory.floor.loop import Floor


class GridWatcher:
    """The grid beside a floor."""

    def __init__(self, floor: Floor) -> None:
        """Begin to watch."""
        self._floor = floor
        self._signals: dict[Kind, Signal] = {}
        self._signal_version = -1
        self._state = ReportState()
        self._errors: dict[str, str] = {}
        """Last fault of each part of a tick."""
        self._charged: set[int] = set()
        """Lines that were active in the last tick; those that ended since are charged once more."""

    def tick(self) -> None:
        """Look at the grid once; a fault in one part stops neither the others nor the floor."""
        now = time.time()
        for part in (self._take, self._settle, self._report):
            try:
                part(now)
            except StoreError:
                raise
            except Exception as error:  # a message that nobody foresaw must not end the floor
                self._say(part.__name__, f"{type(error).__name__}: {error}")

    def _say(self, part: str, text: str) -> None:
        """Write a fault down; the same one in every tick only once."""
        if text != self._errors.get(part):
            self._errors[part] = text
            self._floor.store.record("grid error", details={"error": text})

    def _take(self, now: float) -> None:
        """Take the messages that have come."""
        intake.take_inbox(self._floor.store, now=now)

    def _settle(self, now: float) -> None:
        """Charge costs and apply the rule, at the signals of this moment."""
        # One transaction, one wait for the disk.
        with self._floor.store.transaction():
            readings = self._readings(now)
            self._charge(readings)
            self._apply_rule(readings, now)

    def _readings(self, now: float) -> dict[Kind, Reading | None]:
        """Return the signals at this moment; a long one is read only when it has changed."""
        version = signals.version(self._floor.store)
        if version != self._signal_version:
            self._signal_version = version
            self._signals = {kind: signals.read(self._floor.store, kind) for kind in Kind}
        return {kind: signal.at(now) for kind, signal in self._signals.items()}

    def _charge(self, readings: dict[Kind, Reading | None]) -> None:
        """Charge the lines, if any signal is known."""
        if not any(readings.values()):
            return
        store = self._floor.store
        pue = intake.settings(store).get("pue", SiteConfig().pue)
        # A line that has ended since has used energy after the last look.
        active = {line.id for line in store.lines(ACTIVE)}
        for number in sorted(active | self._charged):
            costs.charge(store, store.line(number), readings, pue=pue)
        self._charged = active

    def _apply_rule(self, readings: dict[Kind, Reading | None], now: float) -> None:
        store = self._floor.store
        wanted = rules.bar(rules.read(store), readings, self._signals, at_s=now)
        if decode(wanted, BAR.hint, name=BAR.name) != store.get(BAR):
            store.put(BAR, wanted)
            reason = "none" if wanted is None else wanted["reason"]
            store.record("grid bar", details={"reason": reason})

    def _report(self, now: float) -> None:
        """Write the reports for the grid."""
        floor = self._floor
        power = floor.power.now
        cores = floor.engine.capacity().cores
        # By the same bound as everything that is compared with the budget.
        most_w = power.idle_w + floor.power.prior_w(Needs(cores=cores, memory_bytes=0))
        seen = FloorPower(
            now=now,
            power_w=power.upper_w,
            limit_w=floor.budget().at(now).limit_w,
            idle_w=power.idle_w,
            most_w=max(most_w, power.upper_w),
        )
        known = [target for target in targets(floor.store) if target.end is None or target.end > now]
        lines = floor.store.lines(tuple(LineState))
        feed = intake.settings(floor.store)["feed"]
        self._state = reporter.advance(self._state, seen, known, lines, feed=feed)
        reporter.write(self._state, floor.store.root, name=f"floor-{floor.store.floor_id[:12]}", now=now)


class Beside:
    """The grid and another watcher of the same floor; orders are for the other one."""

    def __init__(self, grid: GridWatcher, other: Watcher) -> None:
        """Join them."""
        self._grid = grid
        self._other = other

    def tick(self) -> None:
        """Let both look."""
        self._grid.tick()
        self._other.tick()

    def order(self, command: Command) -> str:
        """Pass an order on."""
        return self._other.order(command)

    def close(self) -> None:
        """Close the other."""
        self._other.close()


def beside(watch: Callable[[Floor], Watcher]) -> Callable[[Floor], Watcher]:
    """Return what makes the grid and another watcher."""
    return lambda floor: Beside(GridWatcher(floor), watch(floor))
