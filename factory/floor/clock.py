"""Moments of the wall clock on the monotonic one."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST_MOMENTS = 100_000


class MonotonicTimes:
    """Converts moments when it first sees them: a wall clock that jumps later moves none of them."""

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Use two clocks.

        Args:
            wall: Seconds since 1970, UTC.
            monotonic: Seconds since any moment.
        """
        self._wall = wall
        self._monotonic = monotonic
        self._known: dict[float, float] = {}

    def past(self, moment: float) -> float:
        """Return the monotonic time of something that has happened; now at the latest."""
        if moment not in self._known:
            self._keep(moment, min(self._convert(moment), self._monotonic()))
        return self._known[moment]

    def future(self, moment: float) -> float:
        """Return the monotonic time of something that may be yet to come."""
        if moment not in self._known:
            self._keep(moment, self._convert(moment))
        return self._known[moment]

    def _convert(self, moment: float) -> float:
        return moment - self._wall() + self._monotonic()

    def _keep(self, moment: float, converted: float) -> None:
        if len(self._known) >= _MOST_MOMENTS:
            self._known.clear()
        self._known[moment] = converted
