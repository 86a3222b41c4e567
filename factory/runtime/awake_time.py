"""Time without the stops of this process: SIGSTOP, a frozen control group, a terminal's Ctrl-Z.

Clocks run on while a process is stopped. Between `hold` and `release`, a thread wakes up ten times a second.
If it is late by more than a second, and this process used no CPU time meanwhile, then the process was
stopped: code that keeps the thread from running, such as a compiler, would have used CPU time itself.
"""

from __future__ import annotations

import threading
import time

_PERIOD_NS = 100_000_000
_SHORTEST_STOP_NS = 1_000_000_000
"""Shorter delays may come from other processes on the machine."""
_LARGEST_CPU_SHARE = 0.05
"""CPU time over time, up to which a process counts as stopped."""
_NEVER_NS = 1 << 63


class _Stops:
    """Length of all stops so far, kept by whoever looks first after one: the thread or a reader."""

    def __init__(self) -> None:
        self.total_ns = 0
        self.due_ns = _NEVER_NS
        """Time after which a look is late enough for a stop."""
        self._beat_ns = 0
        self._beat_cpu_ns = 0
        self._usual_cpu_ns = 0
        """CPU time between the last two looks that were in time."""
        self._holders = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self) -> None:
        """Notice stops from now on."""
        with self._lock:
            self._holders += 1
            if self._holders > 1:
                return
            self._beat(time.perf_counter_ns())
            # An event for each thread: one event, cleared for the next thread, could let the last one run on.
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._ended,), name="stops", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """End the thread when nobody holds it any more."""
        with self._lock:
            self._holders -= 1
            if self._holders > 0:
                return
            self.due_ns = _NEVER_NS
            thread = self._thread
            self._ended.set()
        if thread is not None:
            thread.join()

    def look(self) -> None:
        """Add the time since the last look if it was a stop."""
        with self._lock:
            now_ns = time.perf_counter_ns()
            if self.due_ns == _NEVER_NS:
                return
            passed_ns = now_ns - self._beat_ns
            cpu_ns = time.process_time_ns() - self._beat_cpu_ns
            if now_ns < self.due_ns:
                self._usual_cpu_ns = cpu_ns
            # The process may have worked for a period before it was stopped.
            elif cpu_ns < 2 * self._usual_cpu_ns + _LARGEST_CPU_SHARE * passed_ns:
                self.total_ns += passed_ns - _PERIOD_NS
            self._beat(now_ns)

    def _beat(self, now_ns: int) -> None:
        self._beat_ns = now_ns
        self._beat_cpu_ns = time.process_time_ns()
        self.due_ns = now_ns + _PERIOD_NS + _SHORTEST_STOP_NS

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(_PERIOD_NS * 1e-9):
            self.look()


_stops = _Stops()
hold = _stops.hold
release = _stops.release


def stopped_ns() -> int:
    """Return the time for which this process was stopped while somebody held this module [ns]."""
    if time.perf_counter_ns() >= _stops.due_ns:
        _stops.look()
    return _stops.total_ns


def awake_s() -> float:
    """Return a monotonic time that rests while this process is stopped [s]."""
    stopped = stopped_ns()
    return (time.perf_counter_ns() - stopped) * 1e-9
