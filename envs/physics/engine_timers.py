"""MuJoCo's own timers (`mjData.timer`), for which it reads a clock some thirty times a physics step."""

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
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Time nothing in the block: reading the clock takes up to a sixth of a physics step.

        The clock is back after the block, or after the last one if several threads are in theirs.
        """
        with self._lock:
            self._users += 1
            if self._users == 1:
                # Without a clock the engine skips its timers.
                self._kept = self._clock.value
                self._clock.value = None
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._clock.value = self._kept


stopped = _Timers().stopped
