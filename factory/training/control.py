"""Stop, pause and observe a training job while it runs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from factory.runtime.flag import Flag

MetricsListener = Callable[[Mapping[str, float], int], None]
"""Takes an iteration's metrics and its environment steps."""


class RunControl:
    """Requests to a training job, which polls them once an iteration.

    Safe to use from other threads and handlers.

    A stop takes effect at the end of the current iteration or stage; the job then writes a checkpoint and its
    report.
    """

    def __init__(self, *, on_metrics: MetricsListener | None = None) -> None:
        """Prepare a job that runs.

        Args:
            on_metrics: called after every iteration, in the thread of the job.
        """
        self._stop = Flag()
        self._checkpoint = Flag()
        self._unpaused = Flag(is_set=True)
        self._on_metrics = on_metrics
        self.current = "iteration, then writing a checkpoint"
        """Work that a stop lets the job finish, for messages to the user."""

    def request_stop(self) -> None:
        """Ask the job to end early; a paused job resumes in order to end."""
        self._stop.set()
        self._unpaused.set()

    def request_checkpoint(self) -> None:
        """Ask the job to write a checkpoint after the current iteration, and to go on."""
        self._checkpoint.set()

    def take_checkpoint_request(self) -> bool:
        """Return whether a checkpoint was requested since the last call."""
        if not self._checkpoint.is_set():
            return False
        self._checkpoint.clear()
        return True

    def pause(self) -> None:
        """Ask the job to wait after the current iteration."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Let a paused job go on."""
        self._unpaused.set()

    @property
    def should_stop(self) -> bool:
        """True if a stop was requested."""
        return self._stop.is_set()

    @property
    def is_paused(self) -> bool:
        """True if the job waits, or will wait after the current iteration."""
        return not self._unpaused.is_set()

    def wait_while_paused(self) -> None:
        """Block until the job may go on."""
        self._unpaused.wait()

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand an iteration's metrics to the listener."""
        if self._on_metrics is not None:
            self._on_metrics(metrics, step)


@contextmanager
def stop_on_signals(control: RunControl, announce: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP request a stop inside the block; a second SIGINT raises.

    SIGUSR1 requests a checkpoint.

    Args:
        control: receives the request.
        announce: called once a stop is requested, to tell the user what happens next.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        # The second Ctrl-C means now; schedulers, however, may send SIGTERM several times.
        if control.should_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        control.request_stop()
        announce()

    # A closed terminal or a lost connection sends SIGHUP, where there is such a signal.
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    previous = {number: signal.signal(number, handle) for number in numbers}
    # Clusters send SIGUSR1 some time before a job ends.
    if hasattr(signal, "SIGUSR1"):
        previous[signal.SIGUSR1] = signal.signal(
            signal.SIGUSR1, lambda number, frame: control.request_checkpoint()
        )
    try:
        yield
    finally:
        # A library call must leave the handlers of its caller as they were.
        for number, handler in previous.items():
            signal.signal(number, handler)
