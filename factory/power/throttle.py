"""A limit on the mean power of a loop, held by pauses between its iterations."""

from __future__ import annotations

import time
from collections.abc import Callable

from factory.energy.meter import Meter
from factory.energy.reading import MeterReading

_SLICE_S = 0.05
"""Length of a nap between two looks at the meter [s]."""
_MOST_PAUSE = 9.0
"""Longest pause as a multiple of the work before it: a limit below the idle power must not stop a run."""


class Throttle:
    """Pauses after every piece of work until the mean power since the last pause is within the limit.

    Work and the pause after it together stay below the limit, so every longer stretch of whole pieces does.
    The meter counts the machine's idle power meanwhile, so a pause never saves energy: the joules of a token
    grow.
    """

    def __init__(self, watts: float, meter: Meter, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare the pauses.

        Args:
            watts: limit [W]; 0 sets none.
            meter: the meter whose joules count.
            sleep: passes time [s].
        """
        self._watts = watts
        self._meter = meter
        self._sleep = sleep
        self._has_warned = False

    def start(self) -> None:
        """Count from now on."""
        if self._watts:
            self._first = self._meter.read()
            self._before = self._first

    def wait(self, is_stopping: Callable[[], bool] = lambda: False) -> str:
        """Pause for as long as the limit demands.

        Args:
            is_stopping: ends the pause at once where it becomes true.

        Returns:
            A warning where the limit cannot be held, once; empty otherwise.
        """
        if not self._watts:
            return ""
        now = self._meter.read()
        work_s = now.wall_s - self._before.wall_s
        # With the idle power in it, the mean falls towards the idle power and never below.
        latest_s = now.wall_s + _MOST_PAUSE * work_s
        with self._meter.phase("idle"):
            while self._is_above(now) and now.wall_s < latest_s and not is_stopping():
                self._sleep(_SLICE_S)
                now = self._meter.read()
        is_held = not self._is_above(now) or is_stopping()
        # Before the next piece of work begins, which is then held by its own pause.
        drawn = _mean_power(self._before, now)
        self._before = now
        if is_held or self._has_warned:
            return ""
        self._has_warned = True
        return (
            f"profile.watts={self._watts:g}: not held, {drawn} in spite of pauses "
            f"{_MOST_PAUSE:g} times as long as the work"
        )

    def mean_power(self) -> str:
        """Return the mean power from the start to the last pause, for people; empty without a limit."""
        if not self._watts:
            return ""
        return _mean_power(self._first, self._before)

    def _is_above(self, now: MeterReading) -> bool:
        spent_j = now.total_j - self._before.total_j
        return spent_j > self._watts * (now.wall_s - self._before.wall_s)


def _mean_power(first: MeterReading, last: MeterReading) -> str:
    seconds = last.wall_s - first.wall_s
    if seconds <= 0.0:
        return "unknown"
    return f"{(last.total_j - first.total_j) / seconds:.3g} W ({last.tier})"
