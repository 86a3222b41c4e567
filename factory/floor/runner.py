"""`floor run`: ticks until all lines have ended, and says so on the console."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from factory.floor import attempt_files, progress
from factory.floor.engines.base import Engine
from factory.floor.lines import ACTIVE, FINAL, Attempt, LineState
from factory.floor.loop import Floor, Watcher
from factory.floor.page import FILE, write_page
from factory.floor.rules import Rules
from factory.floor.store import Store
from factory.runtime.flag import Flag

_LOOK_S = 0.1
"""Time between two looks at the files of a line that starts or ends."""
_PAGE_S = 3.0
"""Time between two versions of the floor's page."""


def run_floor(store: Store, engine: Engine, rules: Rules, *, watch: Callable[[Floor], Watcher]) -> int:
    """Run a floor; lines keep running when it is interrupted.

    Args:
        store: the floor's store, locked by this process.
        engine: where lines run.
        rules: settings.
        watch: makes the watcher of the floor, such as its operator.

    Returns:
        0 if all lines ended well, 1 if one failed, 130 if the floor was interrupted.
    """
    stop = Flag()
    floor = Floor(store, engine, rules, watch=watch)
    seen = {line.id: line.state for line in store.lines()}
    written_s = -_PAGE_S
    shown_changes = -1
    print(f"floor {store.root}: {len(seen)} lines, {floor.budget().describe(time.time())}", flush=True)
    try:
        with _stop_on_signals(stop):
            while not stop.is_set():
                floor.tick()
                seen = _announce(store, seen)
                # While nothing runs and nothing changes, the page stays as it is.
                has_news = store.lines(ACTIVE) or store.num_changes != shown_changes
                if has_news and time.monotonic() - written_s > _PAGE_S:
                    written_s = time.monotonic()
                    shown_changes = store.num_changes
                    write_page(store)
                if floor.is_done and not rules.is_forever:
                    break
                _wait(floor, stop, rules.tick_s)
    finally:
        floor.power.close()
        floor.watcher.close()
        engine.close()
        # A disk that is full has ended the loop with its own message.
        with contextlib.suppress(OSError):
            store.record("floor stopped", details={"interrupted": stop.is_set()})
            write_page(store)
    if stop.is_set():
        print("interrupted: lines keep running; `floor run` takes them over, `cancel ID` ends them")
        return 130
    failed = [line.id for line in store.lines((LineState.FAILED,))]
    ended = store.lines(tuple(FINAL))
    print(f"{len(ended)} lines ended, {len(failed)} failed; page: {store.root / FILE}")
    return int(bool(failed))


def _wait(floor: Floor, stop: Flag, duration_s: float) -> None:
    """Wait until the next tick is due, or a line that starts or ends has come to the next state."""
    # A start or an end between two ticks is seen at once, so that the next line need not wait.
    moving = floor.supervisor.in_transition()
    look_s = duration_s
    if moving:
        look_s = min(_LOOK_S, duration_s)
    due_s = time.monotonic() + duration_s
    while not stop.wait(look_s) and time.monotonic() < due_s:
        if any(has_arrived(state, attempt, run_dir) for state, attempt, run_dir in moving):
            return


def has_arrived(state: LineState, attempt: Attempt, run_dir: Path) -> bool:
    """Return whether an attempt that starts has made an iteration, or one that ends has an outcome."""
    if state is LineState.STARTING:
        return progress.read(run_dir).written_at > attempt.started_at
    return attempt_files.read_outcome(Path(attempt.folder)) is not None


def _announce(store: Store, seen: dict[int, LineState]) -> dict[int, LineState]:
    """Print a line for each change of state, and return the present states."""
    now: dict[int, LineState] = {}
    for line in store.lines():
        now[line.id] = line.state
        if seen.get(line.id) is not line.state and line.state is not LineState.QUEUED:
            print(f"{time.strftime('%H:%M:%S')}  {line.id:>4}  {line.state:<10}  {line.reason}", flush=True)
    return now


@contextlib.contextmanager
def _stop_on_signals(stop: Flag) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the loop after the present tick."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
