"""Settings of a process: all of its threads follow, and get their settings back where that is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from factory.power.config import ProfileConfig
from factory.power.process import Cores

ROOT = Path(__file__).parents[3]
HAS_TWO = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
START = """
import os, sys, threading
from factory.power.config import ProfileConfig
from factory.power.process import Niceness, Spinning
wait = threading.Event()
thread = threading.Thread(target=wait.wait)
thread.start()
"""


def run(code: str, **variables: str) -> list[str]:
    """Run code in a process of its own, since some settings cannot be taken back, and return its lines."""
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", START + code + "\nwait.set()"],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(not HAS_TWO, reason="needs two CPUs")
def test_threads_that_run_already_keep_to_the_cores() -> None:
    """A thread started before is moved too, and all get their CPUs back."""
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    before = os.sched_getaffinity(0)
    try:
        cores = Cores()
        applied = cores.apply(ProfileConfig(cores=1))
        assert applied.asked == applied.enforced == str(min(before))
        assert os.sched_getaffinity(thread.native_id) == os.sched_getaffinity(0) == {min(before)}
        cores.restore()
        assert os.sched_getaffinity(thread.native_id) == os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)
        wait.set()
        thread.join(60.0)


@pytest.mark.skipif(not HAS_TWO, reason="needs two CPUs")
def test_cores_have_one_thread_each(tmp_path: Path) -> None:
    """Two hardware threads of one core count once."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    for cpu in (first, second):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{first}-{second}\n")
    cores = Cores(topology=tmp_path)
    chosen = cores.apply(ProfileConfig(one_per_core=True)).enforced.split(",")
    cores.restore()
    assert str(first) in chosen
    assert str(second) not in chosen


def test_niceness_is_that_of_all_threads() -> None:
    """A thread started before gives way too; a niceness that is higher already stays."""
    code = """
print(Niceness().apply(ProfileConfig(nice=12)).enforced, os.getpriority(os.PRIO_PROCESS, thread.native_id))
print(Niceness().apply(ProfileConfig(nice=3)).enforced)
"""
    assert run(code) == ["12 12", "12"]


@pytest.mark.parametrize(
    ("variables", "before", "enforced"),
    [
        ({}, "", "0"),
        ({"GOMP_SPINCOUNT": "77"}, "", "77, set in the environment or before torch was loaded"),
        ({}, "sys.modules['torch'] = os", "3000, set in the environment or before torch was loaded"),
    ],
)
def test_spin_count_is_set_in_time_or_reported(variables: dict[str, str], before: str, enforced: str) -> None:
    """The variable is set unless the user did or torch has read it; the report says what counts."""
    code = f"{before}\nprint(Spinning().apply(ProfileConfig(spin=0)).enforced)"
    assert run(code, **variables) == [enforced]
