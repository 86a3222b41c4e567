"""Answers of a running floor to the orders of other processes."""

from __future__ import annotations

import time

from factory.floor import floor_lock
from factory.floor.store import Store

_ANSWER_S = 10.0
"""Time in which a running floor carries out an order."""


def answer(store: Store, number: int) -> str:
    """Return the outcome of an order, once the floor has carried it out."""
    if not floor_lock.is_held(store.root):
        return "queued; the next `floor run` carries it out"
    deadline = time.monotonic() + _ANSWER_S
    while time.monotonic() < deadline:
        outcome = store.command_outcome(number)
        if outcome is not None:
            return outcome
        time.sleep(0.1)
    return "queued; the floor has not answered yet"
