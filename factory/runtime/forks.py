"""Forked processes leave alone what they inherit."""

from __future__ import annotations

import gc
import os


def keep_inherited_objects() -> None:
    """Let no forked process collect objects of its parent.

    The destructor of a physics engine waits for the engine's threads, and a fork copies only one thread. A
    forked process that collects an engine, which its parent left in a cycle of references, waits for ever,
    and so does the parent that waits for its answer: the workers of `task.vectorization=async` are such.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=gc.freeze)
