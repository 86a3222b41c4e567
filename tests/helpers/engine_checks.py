"""Checks that every engine must pass. A test class inherits them and has a fixture `engine`."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from factory.floor import attempt_files
from factory.floor.attempt_files import Spec
from factory.floor.engines.base import Engine
from factory.floor.lines import ExitClass, Handle, Needs

NEEDS = Needs(cores=1.0, memory_bytes=100_000_000)
_LINES = itertools.count(1)
PROGRAM = """
import os, signal, sys, time
def save(number, frame):
    open("checkpoint", "w").close()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
with open("starts", "a") as file:
    file.write(f"{os.getpid()}\\n")
while True:
    time.sleep(0.02)
"""
"""Stands for a training: it writes a checkpoint when it is asked to end."""
PATIENT = """
import os, time
open("starts", "w").close()
while not os.path.exists("go"):
    time.sleep(0.02)
"""
"""Ends well when it is told to go."""


def attempt(root: Path, *, program: str = PROGRAM) -> Path:
    """Return the folder of the first attempt of a new line."""
    line = next(_LINES)
    folder = root / "lines" / str(line) / "1"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-c", program]
    spec = Spec(line=line, attempt=1, argv=argv, run_dir=str(folder), cwd=str(folder))
    attempt_files.write_spec(folder, spec)
    return folder


def wait_for(condition: Callable[[], object], *, limit_s: float = 40.0) -> None:
    """Wait until a condition holds, or fail."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it took too long"
        time.sleep(0.05)


def begin(engine: Engine, folder: Path) -> Handle:
    """Start an attempt, wait until its training runs, and return its process."""
    # Resources of the attempt before are free a moment after it ended.
    wait_for(lambda: engine.fits(NEEDS, []))
    engine.start(folder, NEEDS)
    wait_for((folder / "starts").exists)
    handle = engine.find(folder)
    assert handle is not None
    return handle


@contextlib.contextmanager
def running(engine: Engine, folder: Path) -> Iterator[Handle]:
    """Run an attempt inside the block."""
    handle = begin(engine, folder)
    try:
        yield handle
    finally:
        engine.kill(handle)
        wait_for(lambda: not engine.is_alive(handle))


class EngineChecks:
    """The list of tests that is the same for all engines."""

    def test_an_attempt_runs_to_its_end(self, engine: Engine, tmp_path: Path) -> None:
        """The engine finds the process while it runs; the outcome is what the wrapper wrote."""
        folder = attempt(tmp_path, program=PATIENT)
        assert engine.find(folder) is None
        handle = begin(engine, folder)
        assert handle.engine == engine.name
        assert engine.is_alive(handle)
        (folder / "go").touch()
        wait_for(lambda: not engine.is_alive(handle))
        outcome = attempt_files.read_outcome(folder)
        assert outcome is not None
        assert outcome.exit_class is ExitClass.OK

    def test_a_pause_stops_every_process(self, engine: Engine, tmp_path: Path) -> None:
        """SIGSTOP and SIGCONT reach wrapper and training; a stopped attempt is alive."""
        with running(engine, folder := attempt(tmp_path)) as handle:
            pids = (handle.pid, int((folder / "starts").read_text()))
            engine.signal(handle, signal.SIGSTOP)
            wait_for(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids))
            assert engine.is_alive(handle)
            engine.signal(handle, signal.SIGCONT)
            wait_for(lambda: all(psutil.Process(pid).status() != psutil.STATUS_STOPPED for pid in pids))

    @pytest.mark.parametrize("is_paused", [False, True])
    def test_a_preempted_attempt_saves(self, engine: Engine, tmp_path: Path, is_paused: bool) -> None:
        """The training gets the time it needs for its checkpoint, also when it was paused."""
        folder = attempt(tmp_path)
        handle = begin(engine, folder)
        if is_paused:
            engine.signal(handle, signal.SIGSTOP)
        attempt_files.write_reason(folder, "preempt")
        engine.terminate(handle)
        wait_for(lambda: not engine.is_alive(handle))
        assert (folder / "checkpoint").exists()
        outcome = attempt_files.read_outcome(folder)
        assert outcome is not None
        assert outcome.exit_class is ExitClass.PREEMPTED

    def test_kill_ends_every_process(self, engine: Engine, tmp_path: Path) -> None:
        """No process of a killed attempt is left, and nobody says that it ended well."""
        folder = attempt(tmp_path)
        with running(engine, folder):
            training = int((folder / "starts").read_text())
        assert not psutil.pid_exists(training) or psutil.Process(training).status() == psutil.STATUS_ZOMBIE
        assert attempt_files.read_outcome(folder) is None

    def test_a_killed_wrapper_leaves_an_attempt_that_is_alive(self, engine: Engine, tmp_path: Path) -> None:
        """The training gets SIGTERM from the kernel and saves; until it has ended the attempt is alive."""
        folder = attempt(tmp_path, program=PROGRAM.replace("sys.exit", "time.sleep(1.5); sys.exit"))
        handle = begin(engine, folder)
        psutil.Process(handle.pid).kill()
        wait_for((folder / "checkpoint").exists)
        assert engine.is_alive(handle)
        wait_for(lambda: not engine.is_alive(handle))
        assert attempt_files.read_outcome(folder) is None

    def test_a_second_engine_adopts(self, engine: Engine, another: Engine, tmp_path: Path) -> None:
        """An engine that did not start an attempt finds it, and ends it."""
        folder = attempt(tmp_path)
        handle = begin(engine, folder)
        assert another.find(folder) == handle
        assert another.is_alive(handle)
        another.terminate(handle)
        wait_for(lambda: not another.is_alive(handle))
        assert (folder / "checkpoint").exists()

    def test_an_attempt_that_was_given_up_ends(self, engine: Engine, tmp_path: Path) -> None:
        """Should its host come back, another attempt has taken its place: it saves nothing any more."""
        folder = attempt(tmp_path)
        handle = begin(engine, folder)
        attempt_files.declare_lost(folder)
        wait_for(lambda: not engine.is_alive(handle))
        assert attempt_files.read_outcome(folder) is None
        assert not (folder / "checkpoint").exists()

    def test_a_second_start_does_nothing(self, engine: Engine, tmp_path: Path) -> None:
        """An attempt runs once, however often it is started."""
        with running(engine, folder := attempt(tmp_path)) as handle:
            with contextlib.suppress(OSError):
                engine.start(folder, Needs(cores=0.0, memory_bytes=0))
            time.sleep(1.5)
            assert len((folder / "starts").read_text().split()) == 1
            assert engine.find(folder) == handle

    def test_a_line_fits_on_one_node(self, engine: Engine) -> None:
        """A line that is larger than the largest node fits nowhere; one core fits on an empty engine."""
        capacity = engine.capacity()
        assert capacity.cores == 2.0
        wait_for(lambda: engine.fits(NEEDS, []))
        assert not engine.fits(Needs(cores=3.0, memory_bytes=0), [])
        assert not engine.fits(Needs(cores=1.0, memory_bytes=capacity.memory_bytes + 1), [])
        assert not engine.fits(Needs(cores=1.0, memory_bytes=0, gpus=1), [])

    def test_a_reused_process_number_is_no_match(self, engine: Engine, tmp_path: Path) -> None:
        """Another start time or another boot is another process."""
        with running(engine, attempt(tmp_path)) as handle:
            earlier = Handle(
                engine=handle.engine,
                host=handle.host,
                pid=handle.pid,
                started=handle.started - 3600.0,
                boot_id=handle.boot_id,
            )
            other_boot = Handle(
                engine=handle.engine,
                host=handle.host,
                pid=handle.pid,
                started=handle.started,
                boot_id="another",
            )
            assert not engine.is_alive(other_boot)
            engine.kill(other_boot)
            assert engine.is_alive(handle)
            assert not engine.is_alive(earlier)
