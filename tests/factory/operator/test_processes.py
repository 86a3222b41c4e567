"""Processes of a line, as the kernel's files tell them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from factory.operator import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process below this one."""
    command = ["sh", "-c", "echo ready; read answer"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.communicate(timeout=60.0)


def test_children_their_memory_and_a_stop_are_seen(child: subprocess.Popen[bytes]) -> None:
    """Memory is left out where it is not asked for; a stopped child shows."""
    seen = processes.look(os.getpid())
    assert child.pid in seen.pids
    assert seen.memory_bytes >= psutil.Process(child.pid).memory_info().rss > 0
    assert not seen.is_stopped
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    again = processes.look(os.getpid(), with_memory=False)
    assert again.is_stopped
    assert again.pids == seen.pids
    assert again.memory_bytes == 0


def test_a_process_that_is_gone_has_nothing() -> None:
    """No number, no memory, no CPU to be bound to."""
    assert processes.look(2**22 + 1) == processes.ProcessesView()
    assert processes.affinity(2**22 + 1) == []
