"""The number of this process among those that train one policy. Importing this loads no torch."""

from __future__ import annotations

import os


class PeerLostError(RuntimeError):
    """Another process of the run ended while this one waited for it."""


def rank() -> int:
    """Return this process's number; 0 tracks and saves for all."""
    # The variables that torchrun sets; without it, a run is rank 0 of 1.
    return int(os.environ.get("RANK", 0))


def size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Return this process's number on its host; 0 meters the host, and the number is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_size() -> int:
    """Return the number of processes on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
