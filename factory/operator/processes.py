"""Processes of a line, read from a few files of the kernel; nothing where there is no /proc."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

_PROC = "/proc"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STOPPED = b"T"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesView:
    """The processes of an attempt below its wrapper."""

    pids: tuple[int, ...] = ()
    memory_bytes: int = 0
    """Resident memory, shared pages counted once for each process."""
    is_stopped: bool = False
    """True if one of them is stopped."""


def look(wrapper: int, *, with_memory: bool = True) -> ProcessesView:
    """Return the processes below a wrapper; without their memory if it is not asked for."""
    pids = list(_children(wrapper))
    # The list grows while it is walked through: children of children are found as well.
    for pid in pids:
        pids += _children(pid)
    memory_bytes = 0
    is_stopped = False
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if with_memory:
                memory_bytes += int(_read(pid, "statm").split()[1]) * _PAGE_BYTES
            # The name, in parentheses, may hold anything.
            state = _read(pid, "stat").rpartition(b")")[2].split()[0]
            is_stopped = is_stopped or state == _STOPPED
    return ProcessesView(pids=tuple(pids), memory_bytes=memory_bytes, is_stopped=is_stopped)


def affinity(pid: int) -> list[int]:
    """Return the CPUs that a process may use; empty if it is gone or the system cannot tell."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    try:
        return sorted(os.sched_getaffinity(pid))
    except OSError:
        return []


def bind(pids: tuple[int, ...], cpus: list[int]) -> None:
    """Bind all threads of processes to CPUs."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"{_PROC}/{pid}/task"):
                # A thread may end while its siblings are bound.
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread), cpus)


def _children(pid: int) -> list[int]:
    try:
        text = _read(pid, f"task/{pid}/children")
    except OSError:
        return []
    return [int(number) for number in text.split()]


def _read(pid: int, name: str) -> bytes:
    """Return the content of a process's file, which is written anew by every read of it."""
    with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:
        return file.read()
