"""The CPUs that this process may use."""

from __future__ import annotations

import os


def usable_cpus() -> tuple[int, ...]:
    """Return the CPUs of this process's affinity mask, or all CPUs where the system has no such mask."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    # macOS and Windows; `cpu_count` may be unknown.
    return tuple(range(os.cpu_count() or 1))
