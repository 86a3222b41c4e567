"""The meter of a run: phases on one cumulative timeline, with joules from the available sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from factory.energy.channel import Channel
from factory.energy.config import EnergyConfig
from factory.energy.ledger import NUM_SLOTS, EnergyLedger
from factory.energy.process_tree import ProcessTree
from factory.energy.reading import MeterReading
from factory.energy.selection import select_sources
from factory.energy.sources.base import EnergySource
from factory.energy.split import WindowSplit
from factory.energy.types import PHASES, Boundary
from factory.runtime import awake_time

_UNATTRIBUTED = NUM_SLOTS - 1
_IDLE = PHASES.index("idle")
_NEVER_NS = 1 << 63
"""A time that no clock reaches."""
_SHARED = (
    "energy ({name}): others compute on the same cores, so the joules are shared: this run claims its own "
    "CPU time and no idle power of free cores; energy/total_j_hi is everybody's, an upper bound"
)


class Meter:
    """Meters energy, wall time and CPU time of a run by phase.

    Entering and leaving a phase reads a clock and nothing else. At a phase boundary the counters are read if
    `min_window_s` has passed, and the joules of that window are split by time. So the phases and the
    unattributed rest sum to the total by construction. Time in which this process was stopped is idle,
    whatever its phase. Phases belong to one thread. A meter without sources
    counts seconds only and is the null object.
    """

    def __init__(
        self,
        sources: Sequence[EnergySource] = (),
        *,
        min_window_s: float = 0.1,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        stopped_ns: Callable[[], int] = awake_time.stopped_ns,
        synchronize: Callable[[], None] | None = None,
        sync: str = "none",
        explanation: Sequence[str] = (),
    ) -> None:
        """Assemble the meter; nothing is read before `start`.

        Args:
            sources: Energy sources; their clock should be `clock_ns`.
            min_window_s: Shortest time between two reads of the counters [s].
            clock_ns: Monotonic clock [ns].
            stopped_ns: Time for which this process was stopped so far [ns].
            synchronize: Waits until the accelerator has finished all launched work.
            sync: `boundary`, `sampled` or `none`; see `EnergyConfig.sync`. Ignored without `synchronize`.
            explanation: Reasons for these sources, shown to the user.
        """
        self.explanation = list(explanation)
        self._channels = [Channel(source) for source in sources]
        self._clock_ns = clock_ns
        self._stopped_ns = stopped_ns
        self._min_window_ns = int(min_window_s * 1e9)
        self._policy = "none"
        self._synchronize = _do_nothing
        if synchronize is not None:
            self._policy = sync
            self._synchronize = synchronize
        # One reusable context for each phase: entering a phase allocates nothing.
        self._contexts = {name: _Phase(self, slot) for slot, name in enumerate(PHASES)}
        self._split = WindowSplit(NUM_SLOTS)
        # `_ledger` counts since `start`, `_carried` holds earlier parts of a resumed run.
        self._ledger = EnergyLedger()
        self._carried = EnergyLedger()
        # Guards the channels and the ledger against the polling thread.
        self._lock = threading.Lock()
        self._poller: _Poller | None = None
        self._last_reading: MeterReading | None = None
        self._mark_ns = 0
        self._is_running = False
        self._reported: set[str] = set()
        """Messages that `warnings` has already returned."""

    @classmethod
    def from_config(
        cls, cfg: EnergyConfig, device: str, *, synchronize: Callable[[], None] | None = None
    ) -> Meter:
        """Build the meter of a run from what this machine offers.

        Args:
            cfg: Settings.
            device: `cpu`, `cuda` or `cuda:<index>`.
            synchronize: Drains the accelerator; `torch.cuda.synchronize` for a CUDA device if None.

        Raises:
            ValueError: If `cfg.source` names a source that cannot be used here.
        """
        selection = select_sources(cfg, device)
        if synchronize is None and device.startswith("cuda") and cfg.sync != "none":
            # Imported here: a meter for the CPU must not cost the start-up of torch.
            import torch

            synchronize = torch.cuda.synchronize
        return cls(
            selection.sources,
            min_window_s=cfg.min_window_s,
            synchronize=synchronize,
            sync=cfg.sync,
            explanation=selection.explanation,
        )

    def start(self) -> None:
        """Set the zero of every counter and start the timeline; call once, before the first phase.

        Raises:
            RuntimeError: If called twice.
        """
        if self._is_running or self._last_reading is not None:
            raise RuntimeError("meter.start() was called before: build a new meter and load_state_dict")
        awake_time.hold()
        # Timed before the zero, so that the probe itself is in no window.
        self._switch_cost_s = _time_switch()
        now_ns = self._clock_ns()
        for channel in self._channels:
            channel.start(now_ns)
        # The slowest counter decides how long a window must be for its joules to count as a phase's own.
        opened = [channel.capability for channel in self._channels if channel.capability is not None]
        self._boundary = Boundary.join(capability.boundary for capability in opened)
        self._period_s = max((capability.period_s for capability in opened), default=0.0)
        self._tree = ProcessTree()
        self._cpu_base_s = self._tree.cpu_s()
        # Stack of phases that are interrupted by an inner one.
        self._outer: list[int] = []
        self._slot = _UNATTRIBUTED
        self._syncing = self._policy in ("boundary", "sampled")
        self._stopped_before_ns = self._stopped_ns()
        self._open_window(self._clock_ns())
        self._visits[self._slot] = 1
        self._is_running = True
        # One thread serves all sources that lose energy when they are not read for too long.
        polls_s = [capability.poll_s for capability in opened if capability.poll_s]
        if polls_s:
            self._poller = _Poller(self._poll, period_s=min(polls_s))
            self._poller.start()

    def phase(self, name: str) -> _Phase:
        """Return the context of a phase; an inner phase takes its time and joules from the outer one.

        Raises:
            KeyError: If `name` is not one of `PHASES`.
            RuntimeError: If the meter is not running.
        """
        if not self._is_running:
            raise RuntimeError(f"meter.phase({name!r}) outside start() ... close()")
        return self._contexts[name]

    def read(self) -> MeterReading:
        """Read the counters now and return all totals; after `close`, the last totals."""
        if not self._is_running:
            if self._last_reading is None:
                raise RuntimeError("meter.read() before start()")
            return self._last_reading
        # Work still in flight on the GPU would otherwise appear in the next reading.
        if self._policy != "none":
            self._synchronize()
        now_ns = self._advance()
        self._flush(now_ns)
        self._visits[self._slot] = 1
        self._ledger.cpu_s = self._tree.cpu_s() - self._cpu_base_s
        return (self._carried + self._ledger).reading()

    def warnings(self) -> tuple[str, ...]:
        """Return a message for each source that fails, or that others share; each is reported once."""
        found: list[str] = []
        for channel in self._channels:
            if channel.failure:
                found.append(f"{channel.failure}; its joules count as lost until it can be read again")
            if channel.is_shared:
                found.append(_SHARED.format(name=channel.source.name))
        new = [warning for warning in found if warning not in self._reported]
        self._reported.update(new)
        return tuple(new)

    def state_dict(self) -> dict[str, Any]:
        """Return the totals of the last read, ready for JSON."""
        return (self._carried + self._ledger).to_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the totals of an earlier part of the run, before or after `start`.

        Raises:
            ValueError: If the state is not a meter's.
        """
        self._carried = EnergyLedger.from_dict(state)

    def close(self) -> None:
        """Read a last time and release the sources; safe to call twice."""
        if not self._is_running:
            return
        # The order matters: the last read needs open sources, and the poller must end before they close.
        self._last_reading = self.read()
        self._is_running = False
        awake_time.release()
        if self._poller is not None:
            self._poller.stop()
        for channel in self._channels:
            channel.source.close()

    def _switch(self, slot: int) -> None:
        """Give the time since the last boundary to the slot that ends here, and continue in `slot`."""
        if self._syncing:
            self._synchronize()
        now_ns = self._advance()
        if now_ns >= self._due_ns:
            self._flush(now_ns)
        self._visits[slot] += 1
        self._slot = slot

    def _advance(self) -> int:
        """Give the time since the last call to the present slot, that of stops to `idle`; return now [ns]."""
        now_ns = self._clock_ns()
        passed_ns = now_ns - self._mark_ns
        stopped_ns = self._stopped_ns()
        # A stop may have begun a moment before the last call.
        idle_ns = min(stopped_ns - self._stopped_before_ns, passed_ns)
        self._window_ns[self._slot] += passed_ns - idle_ns
        self._window_ns[_IDLE] += idle_ns
        self._mark_ns = now_ns
        self._stopped_before_ns = stopped_ns
        return now_ns

    def _flush(self, now_ns: int) -> None:
        """Read the counters and split the joules of the window that ends now."""
        if self._policy == "sampled" and not self._syncing:
            # Work launched in an unsynchronised window has to end in it, or its joules would leak into the
            # next.
            self._synchronize()
            now_ns = self._advance()
        # One instant `now_ns` for all channels: their bounds and gaps refer to the same window.
        begin_ns = self._clock_ns()
        with self._lock:
            for channel in self._channels:
                channel.read(now_ns)
            step_j = self._ledger.take_energy(self._channels, now_ns)

        # Split by time, and count the window before the next one opens: no joule is ever without a slot.
        is_synced = self._policy != "sampled" or self._syncing
        shares = self._split.shares(self._window_ns, self._visits, is_synced=is_synced)
        window_s = sum(self._window_ns) * 1e-9
        self._ledger.add_window(shares, step_j, window_s=window_s, period_s=self._period_s)
        self._ledger.boundary = self._boundary
        switches = sum(self._visits)
        if self._policy == "sampled":
            self._syncing = self._split.is_next_synced()
        self._open_window(now_ns)

        # The meter reports its own cost: reading the counters now, and the clock at every boundary of the
        # window.
        cost_s = (self._clock_ns() - begin_ns) * 1e-9 + switches * self._switch_cost_s
        with self._lock:
            self._ledger.overhead_s += cost_s

    def _open_window(self, now_ns: int) -> None:
        self._window_ns = [0] * NUM_SLOTS
        self._visits = [0] * NUM_SLOTS
        self._mark_ns = now_ns
        self._due_ns = now_ns + self._min_window_ns

    def _poll(self) -> None:
        """Read the sources that need polling; their joules are split at the next boundary."""
        # The thread's CPU time, not the wall time: waiting for the lock costs the run nothing.
        begin_s = time.thread_time()
        with self._lock:
            now_ns = self._clock_ns()
            for channel in self._channels:
                if channel.capability is not None and channel.capability.poll_s is not None:
                    channel.read(now_ns)
            self._ledger.overhead_s += time.thread_time() - begin_s


class _Phase:
    """Reusable context of one phase."""

    __slots__ = ("_meter", "_slot")

    def __init__(self, meter: Meter, slot: int) -> None:
        self._meter = meter
        self._slot = slot

    def __enter__(self) -> None:
        meter = self._meter
        meter._outer.append(meter._slot)
        meter._switch(self._slot)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        meter = self._meter
        meter._switch(meter._outer.pop())


class _Poller(threading.Thread):
    """Calls a function at a fixed period until stopped."""

    def __init__(self, poll: Callable[[], None], *, period_s: float) -> None:
        # A daemon: a run that crashes without `close` must still be able to exit.
        super().__init__(name="energy-poll", daemon=True)
        self._poll = poll
        self._period_s = period_s
        self._stopped = threading.Event()

    def run(self) -> None:
        """Poll until `stop`."""
        # `wait` returns at once when `stop` is called, so closing never waits for a whole period.
        while not self._stopped.wait(self._period_s):
            self._poll()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        self.join()


def _do_nothing() -> None:
    """Replace the synchronisation on a device that has none."""


def _time_switch(num_pairs: int = 200) -> float:
    """Return the duration of one phase boundary, timed on a meter without sources [s]."""
    probe = Meter()
    probe._outer = []
    probe._slot = _UNATTRIBUTED
    probe._syncing = False
    probe._stopped_before_ns = probe._stopped_ns()
    probe._open_window(time.perf_counter_ns())
    # No window ends during the probe: the cost of reading counters is measured where it occurs.
    probe._due_ns = _NEVER_NS
    phase = probe._contexts["sim"]
    begin_ns = time.perf_counter_ns()
    for _ in range(num_pairs):
        with phase:
            pass
    elapsed_s = (time.perf_counter_ns() - begin_ns) * 1e-9
    # Every pair is two boundaries: entering and leaving.
    return elapsed_s / (2 * num_pairs)
