"""CPU time of a process and all its descendants, those that ended included.

The kernel adds a process's CPU time to its parent's when the parent waits for it (`wait`(2)): not while it
lives, and never if the parent ended first or ignores SIGCHLD. So the processes of the tree are followed one
by one, and the last count of one that went without being waited for is kept.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
"""Unit of the kernel's process times, 10 ms."""
_CPUCLOCK_SCHED = 2
"""Kind of the clocks that count the time a process was scheduled (linux/posix-timers.h)."""
_SCAN_S = 0.5
"""Shortest time between two searches for new processes [s]; known ones are read every time."""
_TRIES = 10
"""Attempts at reading all processes of a tree without one of them ending meanwhile."""


class ProcessKey(NamedTuple):
    """Identity of a process: a number is used again, but not with the same start time."""

    pid: int
    started: float
    """Start time, in the unit of the system."""


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """A process at a moment."""

    key: ProcessKey
    parent: int
    """Process id of the parent."""
    own_s: float
    """CPU time of all its threads, ended ones included [s]."""
    reaped_s: float
    """CPU time of the descendants that were waited for [s]."""

    @property
    def total_s(self) -> float:
        """Return the CPU time that goes to the parent when it waits for this process [s]."""
        return self.own_s + self.reaped_s


class ProcessTable:
    """Parents of all processes of the machine; several trees may share one table."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Choose the system's interface.

        Args:
            proc: The folder of the kernel's process files; without them `psutil` is asked.
        """
        self._proc = str(proc)
        self._has_proc = (proc / "self" / "stat").exists()
        self._parents: dict[int, tuple[ProcessKey, int]] = {}
        self._children: dict[int, list[ProcessKey]] = {}
        self._scanned_s = float("-inf")

    def read(self, pid: int) -> ProcessTimes | None:
        """Return the present times of a process, None if there is none of that number."""
        if self._has_proc:
            times = _read_proc(f"{self._proc}/{pid}/stat", pid)
        else:
            times = _read_psutil(pid)
        if times is None or pid != os.getpid():
            return times
        # The kernel shows other processes' times in ticks of 10 ms, but our own exactly.
        waited = resource.getrusage(resource.RUSAGE_CHILDREN)
        reaped_s = waited.ru_utime + waited.ru_stime
        return ProcessTimes(times.key, times.parent, time.process_time(), reaped_s)

    def descendants(self, key: ProcessKey) -> list[ProcessKey]:
        """Return the processes below a process, as of the last search, at most half a second ago."""
        self._scan()
        found: list[ProcessKey] = []
        waiting = [key]
        while waiting:
            parent = waiting.pop()
            for child in self._children.get(parent.pid, ()):
                # Nothing starts before its parent: an older process belonged to a former owner of the number.
                if child.started >= parent.started:
                    found.append(child)
                    waiting.append(child)
        return found

    def _scan(self) -> None:
        """Look for new processes; known ones are not read again, because a parent changes only by dying."""
        now_s = time.monotonic()
        if now_s - self._scanned_s < _SCAN_S:
            return
        self._scanned_s = now_s
        parents: dict[int, tuple[ProcessKey, int]] = {}
        for pid in self._pids():
            known = self._parents.get(pid)
            if known is None:
                times = self.read(pid)
                if times is None:
                    continue
                known = (times.key, times.parent)
            parents[pid] = known
        self._parents = parents
        self._children = {}
        for child, parent in parents.values():
            self._children.setdefault(parent, []).append(child)

    def _pids(self) -> list[int]:
        if self._has_proc:
            return [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        import psutil

        return psutil.pids()


class ProcessTree:
    """CPU time of a process and its descendants, counted from the process's start.

    Exact to two ticks of 10 ms for each process that has waited for others, as long as every process is seen
    once before its parent ends: `cpu_s` searches for new ones at most every half second.
    """

    def __init__(self, pid: int | None = None, *, table: ProcessTable | None = None) -> None:
        """Find the process.

        Args:
            pid: The root of the tree; this process if None.
            table: Table to share with other trees.

        Raises:
            ProcessLookupError: If there is no such process.
        """
        self._table = table or ProcessTable()
        root = self._table.read(pid or os.getpid())
        if root is None:
            raise ProcessLookupError(f"no process has the number {pid}")
        self._root = root.key
        self._members = {root.key: root}
        self._gone_s = 0.0
        """CPU time of processes that went without being waited for [s]."""
        self._cpu_s = root.total_s

    def cpu_s(self) -> float:
        """Return the CPU time of the tree so far [s]; it never falls, and stays when the tree has ended."""
        known = dict.fromkeys(self._members)
        for member in self._members:
            known |= dict.fromkeys(self._table.descendants(member))
        members = self._read_consistently(known)
        if members is not None:
            self._gone_s += _unaccounted_s(self._members, members)
            self._members = members
            total_s = self._gone_s + sum(times.total_s for times in members.values())
            self._cpu_s = max(self._cpu_s, total_s)
        return self._cpu_s

    def _read_consistently(self, keys: Iterable[ProcessKey]) -> dict[ProcessKey, ProcessTimes] | None:
        """Read all processes such that none was waited for meanwhile; None if that fails too often.

        A process that is read, and waited for before its parent is read, would count twice.
        """
        before = self._read_all(keys)
        for _ in range(_TRIES):
            after = self._read_all(keys)
            if _reaped(after) == _reaped(before):
                return after
            before = after
        return None

    def _read_all(self, keys: Iterable[ProcessKey]) -> dict[ProcessKey, ProcessTimes]:
        found: dict[ProcessKey, ProcessTimes] = {}
        for key in keys:
            times = self._table.read(key.pid)
            if times is not None and times.key == key:
                found[key] = times
        return found


def _reaped(members: Mapping[ProcessKey, ProcessTimes]) -> dict[ProcessKey, float]:
    """Return the times that change when a process is waited for; the processes are its keys."""
    return {key: times.reaped_s for key, times in members.items()}


def _unaccounted_s(
    before: Mapping[ProcessKey, ProcessTimes], now: Mapping[ProcessKey, ProcessTimes]
) -> float:
    """Return the CPU time of processes that have gone and that no ancestor has waited for [s]."""
    by_pid = {key.pid: times for key, times in before.items()}
    expected_s: dict[ProcessKey | None, float] = {}
    for key, times in before.items():
        if key in now:
            continue
        # The nearest ancestor that lives should have got it, through those that ended as well.
        heir = by_pid.get(times.parent)
        while heir is not None and heir.key not in now:
            heir = by_pid.get(heir.parent)
        heir_key = None
        if heir is not None:
            heir_key = heir.key
        expected_s[heir_key] = expected_s.get(heir_key, 0.0) + times.total_s
    missing_s = 0.0
    for heir_key, total_s in expected_s.items():
        risen_s = 0.0
        if heir_key is not None:
            risen_s = now[heir_key].reaped_s - before[heir_key].reaped_s
        missing_s += max(0.0, total_s - risen_s)
    return missing_s


def _read_proc(path: str, pid: int) -> ProcessTimes | None:
    """Read `/proc/<pid>/stat`, see proc_pid_stat(5)."""
    # `os` instead of `open`: half the time, and this runs for every process of every line each second.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name, in parentheses, may hold spaces and parentheses itself: count from the last one.
    fields = text[text.rfind(b")") + 2 :].split()
    own_s = (int(fields[11]) + int(fields[12])) * _TICK_S
    # The process's CPU-time clock shows the same time without rounding, see clock_getcpuclockid(3).
    with suppress(OSError):
        own_s = max(own_s, time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED))
    return ProcessTimes(
        key=ProcessKey(pid, int(fields[19])),
        parent=int(fields[1]),
        own_s=own_s,
        reaped_s=(int(fields[13]) + int(fields[14])) * _TICK_S,
    )


def _read_psutil(pid: int) -> ProcessTimes | None:
    """Ask `psutil`, which knows the system's own interface."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        times = process.cpu_times()
        # macOS and Windows do not tell the times of children; what was seen of them is kept instead.
        reaped_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return ProcessTimes(
            key=ProcessKey(pid, process.create_time()),
            parent=process.ppid(),
            own_s=times.user + times.system,
            reaped_s=reaped_s,
        )
    return None
