"""Flags that signal handlers set."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from factory.runtime.flag import Flag


def test_signals_in_a_row_never_wait_for_each_other() -> None:
    """Thousands of signals arrive while the flag is set, cleared and waited for; nothing blocks."""
    flag = Flag()
    calls = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal calls
        calls += 1
        flag.set()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
    try:
        due_s = time.monotonic() + 0.5
        while time.monotonic() < due_s:
            flag.wait(1e-4)
            flag.clear()
            flag.set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert calls > 100


def test_another_thread_ends_the_wait() -> None:
    """A wait ends when the flag is set, and otherwise when its time is over."""
    flag = Flag()
    assert not flag.wait(0.01)
    threading.Timer(0.1, flag.set).start()
    assert flag.wait()
    flag.clear()
    assert not flag.is_set()
    assert Flag(is_set=True).wait(0.0)
