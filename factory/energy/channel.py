"""Wrapper of one energy source: it never raises, and time without a reading counts as lost."""

from __future__ import annotations

from factory.energy.sources.base import EnergySource
from factory.energy.types import Capability, Reading, Tier

_RETRY_NS = 5_000_000_000
"""Shortest time between two attempts to open a source that failed."""
_PEAK_WINDOW_S = 0.05
"""Shortest time between two readings whose power counts: over less, a counter's steps look like peaks."""


class Channel:
    """Cumulative energy of one source since `start`, across failures of that source.

    After a failed read the source is opened again, with a new zero, every 5 s at most. The time between
    counts as lost. It adds nothing to the energy and its lower bound, and the highest power seen so far to
    the upper bound. The tier drops to `estimated`, because a count with a gap in it is no full count.
    """

    def __init__(self, source: EnergySource) -> None:
        self.source = source
        self.capability: Capability | None = None
        self.failure = ""
        """Last error message of the source."""
        # Energy of the stretches that ended in a failure; the source starts from zero after each.
        self._banked_j: dict[str, float] = {}
        self._banked_lo_j = 0.0
        self._banked_hi_j = 0.0
        self._banked_lost_s = 0.0
        self._banked_idle_j = 0.0
        self._reading: Reading | None = None
        self._peak_w = 0.0
        self._tier = Tier.MEASURED
        self._covered_until_ns = 0
        self._retry_ns = 0
        self._is_failing = False
        self.is_shared = False
        """True once others were seen to use the source's hardware."""

    def start(self, now_ns: int) -> None:
        """Open the source with a fresh zero; one that has gone since it was chosen is tried again later."""
        self._covered_until_ns = now_ns
        try:
            self.capability = self.source.open()
        except Exception as error:  # as in read
            self._fail(error, now_ns)
        else:
            self._tier = self.capability.tier

    def read(self, now_ns: int) -> None:
        """Take the source's present reading; never raises."""
        if self._is_failing:
            self._recover(now_ns)
            return
        try:
            reading = self.source.read()
        except Exception as error:  # a broken source must not end a training run
            self._fail(error, now_ns)
            return
        self._watch_peak(reading)
        self._tier = Tier.worst((self._tier, reading.tier))
        self.is_shared = self.is_shared or reading.is_shared
        self._reading = reading
        self._covered_until_ns = now_ns

    def components_j(self) -> dict[str, float]:
        """Return the cumulative energy of each component [J]."""
        total_j = dict(self._banked_j)
        if self._reading is not None:
            for name, joules in self._reading.components_j.items():
                total_j[name] = total_j.get(name, 0.0) + joules
        return total_j

    def idle_j(self) -> float:
        """Return the part of the energy that would be used without any work [J], as far as it is known."""
        idle_j = self._banked_idle_j
        if self._reading is not None:
            idle_j += self._reading.idle_j
        return idle_j

    def bounds_j(self, now_ns: int) -> tuple[float, float]:
        """Return the lower and upper bound of the energy [J]; the upper one covers what was lost."""
        # lo = sum of lo_k over segments; hi = sum of hi_k + P_peak * t_lost: lost time can have cost
        # nothing, or as much as the highest power seen.
        lo_j = self._banked_lo_j
        hi_j = self._banked_hi_j
        if self._reading is not None:
            lo_j += self._reading.lo_j
            hi_j += self._reading.hi_j
        return lo_j, hi_j + self.lost_s(now_ns) * self._peak_w

    def lost_s(self, now_ns: int) -> float:
        """Return the time whose energy is missing [s]."""
        # Three kinds of gap: before the last reopening, inside the source, and the one that is open now.
        lost_s = self._banked_lost_s
        if self._reading is not None:
            lost_s += self._reading.lost_s
        if self._is_failing:
            lost_s += (now_ns - self._covered_until_ns) * 1e-9
        return lost_s

    def tier(self, now_ns: int) -> Tier:
        """Return the worst tier so far."""
        if self.lost_s(now_ns) > 0.0:
            return Tier.worst((self._tier, Tier.ESTIMATED))
        return self._tier

    def _fail(self, error: Exception, now_ns: int) -> None:
        """Bank the energy so far, and try again at the next read."""
        self.failure = f"{self.source.name}: {error}"
        # The last good reading stays counted, because reopening sets the source's counter to zero.
        if self._reading is not None:
            self._banked_j = self.components_j()
            self._banked_lo_j += self._reading.lo_j
            self._banked_hi_j += self._reading.hi_j
            self._banked_lost_s += self._reading.lost_s
            self._banked_idle_j += self._reading.idle_j
            self._reading = None
        self._is_failing = True
        self._retry_ns = now_ns

    def _recover(self, now_ns: int) -> None:
        """Open the source again, unless the last attempt was less than 5 s ago."""
        if now_ns < self._retry_ns:
            return
        try:
            self.source.open()
        except Exception as error:  # as in read
            self.failure = f"{self.source.name}: {error}"
            self._retry_ns = now_ns + _RETRY_NS
            return
        # The gap ends here and becomes a fixed part of the lost time.
        self._banked_lost_s += (now_ns - self._covered_until_ns) * 1e-9
        self._covered_until_ns = now_ns
        self._is_failing = False

    def _watch_peak(self, reading: Reading) -> None:
        """Remember the highest mean power between two readings; it bounds energy that is lost later."""
        if self._reading is None:
            return
        # P = dE / dt over two readings, ignored for a short dt: one counter step of tau * P over dt << tau
        # would give P * tau / dt, far above the true power.
        elapsed_s = (reading.t_ns - self._reading.t_ns) * 1e-9
        if elapsed_s >= _PEAK_WINDOW_S:
            step_j = reading.cumulative_j - self._reading.cumulative_j
            self._peak_w = max(self._peak_w, step_j / elapsed_s)
