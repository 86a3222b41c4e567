"""The doctor names the processes that would share a run's counters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from energy_fakes import Clock, FakeGpu, FakeNvml

from factory.diagnosis import neighbours
from factory.diagnosis.finding import Status


def test_busy_process_of_others_is_named() -> None:
    """A process that computes beside the doctor is found, with its load; our own children are not."""
    # Its parent has ended, so it is nobody's child.
    shell = f"{sys.executable} -c 'while True: pass' factory.train >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout)
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found, cores_busy = neighbours.busy_neighbours(1.0)
        finding = neighbours.examine()
    finally:
        child.kill()
        child.wait(timeout=60)
        os.kill(pid, signal.SIGKILL)
    by_pid = {neighbour.pid: neighbour for neighbour in found}
    assert by_pid[pid].name == "factory.train"
    assert by_pid[pid].cores > 0.05
    assert child.pid not in by_pid
    assert cores_busy > 0.05
    assert finding.status is Status.LIMITED
    assert "claim its own CPU time only" in finding.text
    assert pid in finding.facts["processes"]


def test_name_of_a_process_controls_no_terminal() -> None:
    """Any user of the machine may start a process whose arguments hold escape sequences."""
    command = [sys.executable, "-S", "-c", "import time; time.sleep(60)", "factory.\x1b]0;owned" + "x" * 500]
    with subprocess.Popen(command) as process:
        try:
            # The kernel shows the arguments of a new program a moment after it shows the program.
            deadline_s = time.monotonic() + 30.0
            while not psutil.Process(process.pid).cmdline() and time.monotonic() < deadline_s:
                time.sleep(0.01)
            name = neighbours._name(process.pid)
        finally:
            process.kill()
    assert name.startswith("factory.\\x1b]0;owned") and len(name) == 60


def test_quiet_machine_is_said_to_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little of what a system always does is named and harmless."""
    little = [neighbours.Neighbour(1, "init", 0.02)]
    monkeypatch.setattr(neighbours, "busy_neighbours", lambda: (little, 0.02))
    monkeypatch.setattr(neighbours, "gpu_neighbours", lambda: [])
    finding = neighbours.examine()
    assert finding.status is Status.OK
    assert "init (process 1, 0.02 cores)" in finding.text


def test_load_that_nobody_here_can_see_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the processes of others are invisible, their CPU time is not."""
    monkeypatch.setattr(neighbours, "busy_neighbours", lambda: ([], 5.0))
    monkeypatch.setattr(neighbours, "gpu_neighbours", lambda: [])
    finding = neighbours.examine()
    assert finding.status is Status.LIMITED
    assert "processes that are not visible here (5 cores)" in finding.text


def test_process_on_the_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever computes on a board shares its counter."""
    gpu = FakeGpu("GPU-1", 300.0)
    gpu.pids = [1]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(Clock(), [gpu]))
    monkeypatch.setattr(neighbours, "busy_neighbours", lambda: ([], 0.0))
    assert [neighbour.pid for neighbour in neighbours.gpu_neighbours()] == [1]
    assert "on the GPU" in neighbours.examine().text
