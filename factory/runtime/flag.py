"""A flag that signal handlers may set at any moment."""

from __future__ import annotations

import time
from math import inf

_LOOK_S = 0.05
"""Time between two looks at a flag that is waited for."""


class Flag:
    """A flag that threads and signal handlers set, and that is waited for.

    A handler must take no lock. `threading.Event` has one: if a second signal arrives while the handler of
    the first holds it, or while the interrupted code does, the process waits for itself for ever.
    """

    def __init__(self, *, is_set: bool = False) -> None:
        """Make a flag."""
        self._is_set = is_set

    def set(self) -> None:
        """Set the flag."""
        self._is_set = True

    def clear(self) -> None:
        """Take the flag back."""
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._is_set

    def wait(self, timeout_s: float = inf) -> bool:
        """Wait until the flag is set, or the time is over [s]; return whether it is set."""
        due_s = time.monotonic() + timeout_s
        while not self._is_set and (left_s := due_s - time.monotonic()) > 0.0:
            time.sleep(min(_LOOK_S, left_s))
        return self._is_set
