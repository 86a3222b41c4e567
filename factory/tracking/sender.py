"""Background thread that empties the outbox at a limited cost and waits for an unreachable server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from factory.tracking.credentials import redacted
from factory.tracking.outbox import Outbox
from factory.tracking.updates import Update

log = logging.getLogger("factory.tracking")

COST_SHARE = 0.01
"""Largest share of the elapsed time that sending may cost during the run."""
FREE_UPDATES = 100
"""Updates that are always accepted, so that a short run keeps every row."""
TYPICAL_UPDATE_S = 0.005
"""CPU time of sending one row of 50 metrics to SQLite in batches; replaced by the run's own mean [s]."""
PEEK = 32
"""Updates read from the outbox at a time."""
LONGEST_BACKOFF_S = 60.0
"""The pause between attempts doubles from 1 s up to this."""


class RefusedError(Exception):
    """The server answers, but will never accept this update."""


def root_cause(error: BaseException) -> str:
    """Return the message of the first error in a chain, such as `[Errno 111] Connection refused`."""
    # MLflow wraps urllib3's errors, which wrap the system's; the innermost one helps the user.
    while inner := error.__cause__ or error.__context__:
        error = inner
    return redacted(" ".join(str(error).split()))[:160]


class Sender:
    """Deliver updates in order, at least once.

    The cost that stays below `COST_SHARE` is the time that training loses: CPU time of the sending thread (it
    holds the interpreter lock while it computes, not while it waits for the server) and the time callers
    spend in `put`.
    """

    def __init__(self, outbox: Outbox, deliver: Callable[[list[Update]], int], *, server: str) -> None:
        """Prepare the thread; nothing is sent before `start`.

        Args:
            outbox: Queue to empty.
            deliver: Sends some of the updates, from the front, and returns their number. Raises
                `RefusedError` if the first one can never be accepted; any other exception means that the
                server is unreachable.
            server: Name of the server in warnings.
        """
        self._refusals: list[str] = []
        self._outbox = outbox
        self._deliver = deliver
        self._server = server
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._settled = threading.Event()
        # Costs so far: CPU time of the thread, wall time of the callers.
        self._backoff_s = 0.0
        self._thread_s = 0.0
        self._caller_s = 0.0
        self._sent = 0
        self._accepted = 0
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    @property
    def spent_s(self) -> float:
        """Time taken from training since the first pass: thread CPU seconds and the callers' wall seconds."""
        return self._thread_s + self._caller_s

    def start(self, *, wait_s: float) -> list[str]:
        """Start sending; wait for the end of the first pass over the outbox, but at most `wait_s`.

        Returns:
            Reasons of the updates refused in that pass. Later refusals are warnings in the log.
        """
        self._thread.start()
        # A store that is reachable gives the run its id at once, for the console and the parent of a sweep.
        self._settled.wait(wait_s)
        return list(self._refusals)

    def put(self, update: Update) -> None:
        """Queue an update."""
        began = time.perf_counter()
        self._outbox.put(update)
        self._accepted += 1
        self._wake.set()
        self._caller_s += time.perf_counter() - began

    def can_afford_one_more(self) -> bool:
        """Return whether one more update keeps the cost, including that of the queue, within the share."""
        # Mean cost of an update, which starts at a typical value and approaches that of this run.
        update_s = (TYPICAL_UPDATE_S + self.spent_s) / (1 + self._sent)
        ahead_s = self.spent_s + update_s * (len(self._outbox) + 1)
        return self._accepted < FREE_UPDATES or ahead_s <= COST_SHARE * self._elapsed_s()

    def close(self) -> None:
        """Send the rest at any cost; updates that the server does not take now stay in the outbox's file."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if len(self._outbox):
            log.warning(
                "%s is away: %d updates wait in %s; resuming the run sends them",
                self._server,
                len(self._outbox),
                self._outbox.path,
            )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.is_set()
            began_s = time.thread_time()
            self._pass(in_full=closing or not self._settled.is_set())
            self._thread_s += time.thread_time() - began_s
            # Opening the run belongs to start-up: the running cost is counted from here on.
            if not self._settled.is_set():
                self._thread_s = 0.0
                self._sent = 0
                self._began_s = time.monotonic()
                self._settled.set()
            if not closing:
                self._rest()

    def _pass(self, *, in_full: bool) -> None:
        """Send one group of updates, or all of them."""
        while len(self._outbox):
            try:
                updates = self._outbox.peek(PEEK)
                handled = self._handle(updates)
                self._outbox.drop(handled)
            except Exception as reason:  # whatever failed outside, training continues
                self._note_away(reason)
                return
            self._sent += handled
            self._note_back()
            if not in_full:
                return

    def _handle(self, updates: list[Update]) -> int:
        """Deliver updates, if any is left after the check of the outbox; return how many are done with."""
        if not updates:
            return 0
        try:
            return self._deliver(updates)
        except RefusedError as refusal:
            # Dropped: it would block all updates behind it for ever.
            self._note_refusal(redacted(str(refusal)))
            return 1

    def _rest(self) -> None:
        """Wait for the end of a back-off, until the cost is back within its share, or for a new update."""
        # A pass that cost c is paid for after c / share of elapsed time.
        debt_s = self._thread_s / COST_SHARE - self._elapsed_s()
        if self._backoff_s or debt_s > 0:
            self._closing.wait(max(self._backoff_s, debt_s))
        elif not len(self._outbox):
            self._wake.wait()
        self._wake.clear()

    def _note_refusal(self, message: str) -> None:
        if message not in self._refusals:
            self._refusals.append(message)
            if self._settled.is_set():
                log.warning("%s refused an update, which is dropped: %s", self._server, message)

    def _note_away(self, reason: Exception) -> None:
        if not self._backoff_s:
            log.warning(
                "%s is away (%s); training continues, updates are kept in %s",
                self._server,
                root_cause(reason),
                self._outbox.path,
            )
        self._backoff_s = min(LONGEST_BACKOFF_S, max(1.0, 2 * self._backoff_s))

    def _note_back(self) -> None:
        if self._backoff_s:
            log.warning("%s is back; the updates kept meanwhile are being sent", self._server)
        self._backoff_s = 0.0
