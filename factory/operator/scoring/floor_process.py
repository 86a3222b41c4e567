"""The floor of a live trial: `python -m factory.operator.scoring.floor_process <folder> <settings>`.

It is `floor run` with a recorder beside the operator, and with two instruments that a trial can spoil: a
tree of energy counters, and the wall clock.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from factory import sections
from factory.energy.config import EnergyConfig
from factory.floor import floor_lock
from factory.floor.engines.local import LocalEngine
from factory.floor.loop import Floor
from factory.floor.records import Command
from factory.floor.rules import Rules
from factory.floor.runner import run_floor
from factory.floor.store import Store
from factory.operator.config import OperatorConfig
from factory.operator.deciders import table
from factory.operator.hands import FloorPort
from factory.operator.journal import Journal
from factory.operator.operator import Operator
from factory.operator.scoring import trace
from factory.operator.scoring.config import PAGE
from factory.operator.words import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

TRACE = "trace.jsonl"
CLOCK = "clock"
"""File with the seconds by which the wall clock is wrong."""
COUNTERS = "powercap"
"""Folder of the tree of energy counters; without it the floor takes the machine's own."""
_TREE_W = 30.0


@dataclass(kw_only=True)
class FloorSettings:
    """Settings of the floor of a trial."""

    root: str
    cores: float
    overrides: list[str]
    """`operator.key=value`."""


class Recorder:
    """The operator beside a floor, and a file with everything that it saw and did."""

    def __init__(self, floor: Floor, config: OperatorConfig, folder: Path, clock: MovedClock) -> None:
        """Watch a floor, in mode `auto`."""
        journal = Journal(floor.store)
        self._floor = floor
        self._clock = clock
        self._operator = Operator(
            FloorPort(floor),
            journal,
            table.make(config, journal),
            config,
            Mode.AUTO,
            ranker=table.make_ranker(config, journal),
        )
        self._counter = folder / COUNTERS / "intel-rapl:0" / "energy_uj"
        self._file = (folder / TRACE).open("a")
        self._last_s = -inf

    def tick(self) -> None:
        """Let the operator do its work, and write down what there was to see."""
        view = self._operator.tick()
        lines = {line.id: line for line in self._floor.store.lines()}
        plain = trace.tick(
            view,
            self._operator,
            tokens={number: line.tokens for number, line in lines.items()},
            joules={number: line.joules for number, line in lines.items()},
        )
        seen = trace.recorded(view, newer_than_s=self._last_s, power_w=self._floor.power.charged_w)
        self._file.write(json.dumps(plain | seen) + "\n")
        # The trial reads it while the floor runs, and may kill the floor at any time.
        self._file.flush()
        self._count(view.now_s - self._last_s)
        self._last_s = view.now_s
        # After the tick: a step of the clock comes between two ticks, as it does on a real machine.
        self._clock.look()

    def order(self, command: Command) -> str:
        """Carry out nothing: nobody approves anything in a trial."""
        return "a trial takes no orders"

    def close(self) -> None:
        """Close the file, and let go of the operator."""
        self._operator.close()
        self._file.close()

    def _count(self, elapsed_s: float) -> None:
        """Let the counter run on, as long as it is there."""
        if not self._counter.exists():
            return
        counted_uj = int(self._counter.read_text())
        self._counter.write_text(str(counted_uj + int(1e6 * _TREE_W * min(elapsed_s, 2.0))))


class MovedClock:
    """The wall clock of this process, wrong by what a file says."""

    def __init__(self, file: Path, wall: Callable[[], float] = time.time) -> None:
        """Take the file's word, if there is one."""
        self._file = file
        self._wall = wall
        self._offset_s = 0.0
        self.look()

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return self._wall() + self._offset_s

    def look(self) -> None:
        """Read the file again."""
        with contextlib.suppress(OSError, ValueError):
            self._offset_s = float(self._file.read_text())


def main() -> None:
    """Run the floor until a signal ends it."""
    folder = Path(sys.argv[1])
    given = FloorSettings(**json.loads(sys.argv[2]))
    clock = MovedClock(folder / CLOCK)
    # Everything in this process reads the clock as `time.time()`.
    time.time = clock
    config = sections.parse(OperatorConfig, "operator", given.overrides, page=PAGE)
    energy = EnergyConfig()
    if (folder / COUNTERS).is_dir():
        energy = EnergyConfig(source="rapl", rapl_root=str(folder / COUNTERS))
    rules = Rules(is_forever=True, energy=energy)
    with Store(Path(given.root)) as store, floor_lock.locked(store.root):
        run_floor(
            store,
            LocalEngine(cores=given.cores),
            rules,
            watch=lambda floor: Recorder(floor, config, folder, clock),
        )


def command(folder: Path, settings: FloorSettings) -> list[str]:
    """Return the command that runs the floor of a trial."""
    return [sys.executable, "-m", __name__, str(folder), json.dumps(asdict(settings))]


if __name__ == "__main__":
    main()
