"""The CPUs that this process may use."""

from __future__ import annotations

import os


def usable_cpus() -> tuple[int, ...]:
    """Return the CPUs of this process's affinity mask, or all where the system has none."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
