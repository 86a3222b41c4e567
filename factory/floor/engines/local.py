"""The local engine: processes of this machine, without a server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from factory.energy.cgroup import Cgroup
from factory.floor import attempt_files, gpus
from factory.floor.engines.base import Engine
from factory.floor.lines import Handle, Needs
from factory.runtime.cpus import usable_cpus


class LocalEngine(Engine):
    """Runs attempts as processes of this machine."""

    name = "local"
    is_local = True

    def __init__(self, *, cores: float | None = None) -> None:
        """Take the machine as it is.

        Args:
            cores: CPUs that lines may occupy together; those of this process if None.
        """
        limit = Cgroup().memory_limit_bytes() or psutil.virtual_memory().total
        self.gpus = tuple(gpus.visible())
        self._capacity = Needs(
            cores=cores or float(len(usable_cpus())), memory_bytes=limit, gpus=len(self.gpus)
        )

    def capacity(self) -> Needs:
        """Return cores, memory and GPUs of this machine."""
        return self._capacity

    def fits(self, needs: Needs, occupied: list[Needs]) -> bool:
        """Return whether cores, memory and GPUs are left."""
        cores = sum(other.cores for other in occupied)
        memory_bytes = sum(other.memory_bytes for other in occupied)
        return (
            cores + needs.cores <= self._capacity.cores + 1e-9
            and memory_bytes + needs.memory_bytes <= self._capacity.memory_bytes
            and sum(other.gpus for other in occupied) + needs.gpus <= self._capacity.gpus
        )

    def start(self, folder: Path, needs: Needs) -> None:
        """Start the wrapper; it is known to `find` as soon as it runs."""
        start_wrapper(folder)

    def is_alive(self, handle: Handle) -> bool:
        """Return whether the wrapper, or a process it left behind, is alive."""
        return any(_session(handle))

    def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the whole session."""
        for process in _session(handle):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(number)

    def terminate(self, handle: Handle) -> None:
        """Send SIGTERM to the wrapper, which passes it on, and wake up the session.

        A stopped process handles no signal until it goes on.
        """
        members = list(_session(handle))
        # A training without its wrapper gets the signal itself.
        leaders = [process for process in members if process.pid == handle.pid] or members
        for process in leaders:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        # After SIGTERM, so that a stopped process handles it first of all when it wakes up.
        self.signal(handle, signal.SIGCONT)

    def kill(self, handle: Handle) -> None:
        """Kill the whole session."""
        self.signal(handle, signal.SIGKILL)

    def close(self) -> None:
        """Collect wrappers that ended."""


def start_wrapper(folder: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the wrapper of an attempt as a process of this machine.

    Args:
        folder: folder of the attempt.
        environment: variables; those of this process if None.
    """
    with (folder / "wrapper.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "factory.floor.wrapper", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
            # A session of its own: a signal to the floor's terminal does not reach it.
            start_new_session=True,
        )


def _session(handle: Handle) -> Iterator[psutil.Process]:
    """Yield the processes of an attempt that are alive: those of the session that the wrapper leads.

    The wrapper may be gone while a training it started is not; its session keeps the number then.
    """
    if handle.host != socket.gethostname() or handle.boot_id != attempt_files.boot_id():
        return
    # The number can be taken by another leader only after the whole old session is gone.
    with contextlib.suppress(psutil.Error):
        if abs(psutil.Process(handle.pid).create_time() - handle.started) > 1.0:
            return
    # By session and not by parent: children of a wrapper that is gone have another parent.
    for pid in psutil.pids():
        try:
            if os.getsid(pid) != handle.pid:
                continue
            process = psutil.Process(pid)
            # A second of play, since the kernel counts start times in ticks since boot.
            is_younger = process.create_time() >= handle.started - 1.0
            if is_younger and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
