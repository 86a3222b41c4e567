"""A watchdog over the steps of environments: a world that hangs ends the run, instead of keeping it for ever.

Code that hangs cannot be asked to return, and raising in it may change nothing. So a thread of its own writes
the stacks of all threads, closes what can be closed, and ends the process. Where native code hangs and keeps
Python's lock, so that no thread runs any more, another process ends it (`factory.training.sentry`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from factory.envs.core.training_env import TrainingEnv
from factory.runtime import stored_files
from factory.runtime.stored_files import visible
from factory.training import checkpoint_files, run_lock, sentry

STACKS_FILE = "hang.txt"
"""File in the run folder with the stacks of all threads of a run that hung."""
_LEAD_S = 10.0
"""Time by which the thread is ahead of the other process [s]."""
_CLOSING_S = 30.0
"""Longest time for closing the run [s]; what was finished is on disk already."""


class _Calls:
    """The call into an environment that this process is making."""

    def __init__(self) -> None:
        self._counts = memoryview(bytearray(8)).cast("Q")

    @property
    def count(self) -> int:
        """Calls so far, twice; odd while one is under way."""
        return self._counts[0]

    def share(self) -> Any:
        """Return a file in which another process finds the count from now on."""
        # Without a name: it needs no removal, and nobody else can put a link in its place.
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed by the caller; the memory stays mapped
        file.truncate(8)
        shared = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
        shared[0] = self._counts[0]
        self._counts = shared
        return file

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with its calls counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._counts[0] += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._counts[0] += 1

        return call


_calls = _Calls()


def watch_steps(env: TrainingEnv) -> None:
    """Let `watching` see the calls of `step` and `reset` of an environment."""
    for name in ("step", "reset"):
        setattr(env, name, _calls.watched(getattr(env, name)))


@contextlib.contextmanager
def watching(run_dir: Path, timeout_s: float, close: Callable[[], None]) -> Iterator[None]:
    """End this process with status 1 if a watched call takes longer than `timeout_s` inside the block.

    Args:
        run_dir: folder of the run, for the stacks and the message.
        timeout_s: longest call [s]; 0 sets no limit.
        close: closes the run as failed; called in another thread, and not waited for much.
    """
    if not timeout_s:
        yield
        return
    stopped = threading.Event()

    def watch() -> None:
        if _wait_for_hang(stopped, timeout_s):
            _end_process(run_dir, timeout_s, close)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        with _sentry(run_dir, timeout_s):
            yield
    finally:
        stopped.set()
        thread.join()


@contextlib.contextmanager
def _sentry(run_dir: Path, timeout_s: float) -> Iterator[None]:
    """Have another process watch inside the block; it leaves the thread of this one time to act first."""
    if sys.platform != "linux":
        # Elsewhere it could not tell a process that hangs from one that is stopped.
        yield
        return
    with _calls.share() as calls, tempfile.TemporaryFile() as stacks:
        faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True)
        files = (calls.fileno(), stacks.fileno())
        numbers = (os.getpid(), *files, timeout_s, _CLOSING_S + _LEAD_S)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", sentry.__file__, *map(str, numbers), str(run_dir.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=files,
            # Ctrl-C, and a signal that stops the run, are not meant for it.
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()
            faulthandler.unregister(signal.SIGUSR2)


def _wait_for_hang(stopped: threading.Event, timeout_s: float) -> bool:
    """Return True once a call has taken too long, False when `stopped` is set."""
    period_s = min(1.0, timeout_s / 10)
    seen = _calls.count
    waited_s = 0.0
    while not stopped.wait(period_s):
        if _calls.count != seen or seen % 2 == 0:
            seen = _calls.count
            waited_s = 0.0
            continue
        # Periods count, not a clock: time in which a signal had stopped this process is nobody's fault.
        waited_s += period_s
        if waited_s >= timeout_s:
            return True
    return False


def _end_process(run_dir: Path, timeout_s: float, close: Callable[[], None]) -> None:
    """Write stacks and one line, close the run, and end this process and its children with status 1."""
    path = run_dir / STACKS_FILE
    with contextlib.suppress(OSError), open(path, "w", opener=stored_files.no_link) as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(_CLOSING_S)
    run_lock.release(run_dir)
    message = (
        f"error: a step of the environments did not return within task.step_timeout_s={timeout_s:g}; the"
        f" stacks of all threads are in {path}; mend the environment, or allow it more time"
        f"{checkpoint_files.go_on(run_dir)}"
    )
    print(visible(message), file=sys.stderr, flush=True)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    # Any other way to end waits for the thread that hangs.
    os._exit(1)
