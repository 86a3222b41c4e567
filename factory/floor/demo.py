"""`floor demo`: five small lines, a budget that halves and returns, and one kill, in under three minutes."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil

from factory import cli
from factory.floor import status_view
from factory.floor.attempt_files import read_spec
from factory.floor.lines import LineState
from factory.floor.store import FILE, Store

_LINE = ("experiment=smoke", "total_steps=200000", "runtime.video_s=0", "tracking=jsonl")
_FLEX = (0, 1, 3, 3, 2)
_LOW_S = 25.0
_STEADY_S = 5.0
_PATIENCE_S = 90.0


def demo(given: argparse.Namespace) -> int:
    """Show the floor at work and return its exit status.

    Raises:
        ValueError: the folder holds a floor already.
    """
    root: Path = given.root
    if (root / FILE).exists():
        raise ValueError(f"--root={root}: holds a floor already; name a new folder")
    cli.check_writable(root, key="--root")
    for seed, flex in enumerate(_FLEX):
        _floor(root, "submit", *_LINE, f"seed={seed}", "--flex", str(flex), "--name", f"demo flex {flex}")
    command = [sys.executable, "-m", "factory.floor", "run", "--root", str(root)]
    floor = subprocess.Popen(command)
    try:
        with Store(root) as store:
            _halve_budget(root, store)
            _kill_one(store)
        status = floor.wait()
    except BaseException:
        floor.terminate()
        raise
    _floor(root, "report")
    return status


def _halve_budget(root: Path, store: Store) -> None:
    """Set half of the present power as a target, for a while, once lines run."""
    _wait_for_running(store)
    time.sleep(_STEADY_S)
    # Half of the bound on which the budget is held, so that lines have to be paused on any machine.
    watts = status_view.plain(store)["floor"]["power_upper_w"] / 2.0
    print(f"demo: the budget falls to {watts:.1f} W for {_LOW_S:.0f} s", flush=True)
    _floor(root, "budget", "set", f"{watts:.1f}", "--for", f"{_LOW_S:.0f}s")
    time.sleep(_LOW_S)
    print("demo: the budget returns", flush=True)


def _kill_one(store: Store) -> None:
    """Kill the training of a running line, as a crash would."""
    line = _wait_for_running(store)
    attempt = store.last_attempt(line)
    if attempt is None or attempt.handle is None:
        return
    argv = read_spec(Path(attempt.folder)).argv
    for process in psutil.Process(attempt.handle.pid).children():
        if process.cmdline() == argv:
            print(f"demo: the training of line {line} is killed", flush=True)
            process.kill()


def _wait_for_running(store: Store) -> int:
    """Return a line that runs, once there is one; 0 if all have ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        running = store.lines((LineState.RUNNING,))
        if running:
            return running[-1].id
        if all(line.state.is_final for line in store.lines()):
            return 0
        time.sleep(0.2)
    raise ValueError(f"no line runs after {_PATIENCE_S:.0f} s; see `logs 1 --root {store.root}`")


def _floor(root: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "factory.floor", *arguments, "--root", str(root)],
        check=True,
        stdout=None if arguments[0] == "report" else subprocess.DEVNULL,
    )
