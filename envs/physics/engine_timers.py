"""MuJoCo's own timers (`mjData.timer`), for which it reads a clock some thirty times in every time step."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from factory.envs.physics.library import engine_library


def _clock() -> ctypes.c_void_p:
    """Return the engine's pointer to its clock; a pointer of our own where its library is not found."""
    with contextlib.suppress(OSError, ValueError):
        return ctypes.c_void_p.in_dll(engine_library(), "mjcb_time")
    return ctypes.c_void_p()


class _Timers:
    """The clock's pointer, `mjcb_time`, which is one for the whole process."""

    def __init__(self) -> None:
        self._clock = _clock()
        self._kept = self._clock.value
        self._lock, self._users = threading.Lock(), 0

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let nothing be timed: the package gives the engine a clock, and reading it takes up to a sixth of a step.

        The clock is back after the block, or after the last one where several threads are in theirs.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._kept, self._clock.value = self._clock.value, None
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._clock.value = self._kept


stopped = _Timers().stopped
