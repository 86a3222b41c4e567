"""A step that hangs ends its process; one that only takes long, or is stopped, does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.training import watchdog

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, time
from pathlib import Path
from factory.training import run_lock, watchdog

class Env:
    def step(self, actions):
        print("stepping", flush=True)
        time.sleep(actions)
    reset = step

env, folder = Env(), Path(sys.argv[1])
watchdog.watch_steps(env)
with run_lock.locked(folder), watchdog.watching(folder, float(sys.argv[2]), lambda: print("closed")):
    env.step(float(sys.argv[3]))
print("returned")
"""


LOCKING_SCRIPT = """
import ctypes, sys
from pathlib import Path
from factory.training import watchdog

watchdog._CLOSING_S = watchdog._LEAD_S = 0.2
python = ctypes.PyDLL(None)

class Env:
    def step(self, mutex):
        # Locked a second time, by a call that keeps Python's own lock, it is never free again.
        python.pthread_mutex_lock(mutex)
    reset = step

env, folder = Env(), Path(sys.argv[1])
watchdog.watch_steps(env)
mutex = ctypes.create_string_buffer(64)
with watchdog.watching(folder, 0.5, lambda: None):
    env.step(mutex)
    env.step(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_native_code_that_keeps_the_lock_is_ended_from_outside(tmp_path: Path) -> None:
    """No thread can run, so another process writes the stacks, says why in one line, and kills this one."""
    arguments = [sys.executable, "-c", LOCKING_SCRIPT, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stderr.splitlines()) == 1
    assert "within task.step_timeout_s=0.5, and kept Python's lock; the stacks" in done.stderr
    assert 'File "<string>", line 12 in step' in (tmp_path / "hang.txt").read_text()


def start(folder: Path, *, timeout_s: float, step_s: float) -> subprocess.Popen[str]:
    """Start a process whose only step sleeps, and wait for that step."""
    arguments = [sys.executable, "-c", SCRIPT, str(folder), str(timeout_s), str(step_s)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "stepping\n"
    return process


def test_step_that_hangs_ends_the_process_with_its_stack(tmp_path: Path) -> None:
    """Status 1, one line with setting and file, the run closed, the lock gone, and the line of code."""
    process = start(tmp_path, timeout_s=0.5, step_s=600.0)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "closed\n")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: a step of the environments did not return within task.step_timeout_s=0.5;")
    assert str(tmp_path / "hang.txt") in err
    assert 'File "<string>", line 9 in step' in (tmp_path / "hang.txt").read_text()
    assert not (tmp_path / ".lock").exists()


def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path: Path) -> None:
    """A step of 1 s that SIGSTOP makes last 4 s is no step of more than 3 s."""
    process = start(tmp_path, timeout_s=3.0, step_s=1.0)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4.0)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "returned\n", "")


def test_many_short_steps_may_take_long_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of one step; without a limit there is no thread."""
    ended: list[Path] = []
    monkeypatch.setattr(watchdog, "_end_process", lambda run_dir, *rest: ended.append(run_dir))
    step = watchdog._calls.watched(time.sleep)
    with watchdog.watching(tmp_path, 0.3, lambda: None):
        for _ in range(20):
            step(0.05)
    assert not ended
    with watchdog.watching(tmp_path, 0.3, lambda: None):
        step(1.0)
    assert ended == [tmp_path]
