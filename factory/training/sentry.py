"""A process beside a training that sees a step hang even if its code never lets go of Python's lock.

Then no thread of the training can do anything any more, the watchdog's neither. It is run by its path,
without any package, so that it starts in milliseconds and takes little memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_STACKS_WAIT_S = 1.0
"""Time in which the handler of SIGUSR2 writes the stacks [s]."""


def main() -> None:
    """Watch the parent process until it ends, or end it.

    The arguments are its number, the file descriptors of the count of calls and of the stacks, the longest
    call and the time to wait beyond it [s], and the run folder.
    """
    parent, calls, stacks = map(int, sys.argv[1:4])
    timeout_s, patience_s = map(float, sys.argv[4:6])
    run_dir = Path(sys.argv[6])
    if not _sees_hang(parent, calls, timeout_s + patience_s, period_s=min(1.0, timeout_s / 10)):
        return
    os.kill(parent, signal.SIGUSR2)
    path = run_dir / "hang.txt"
    with contextlib.suppress(OSError), open(path, "wb", opener=_no_link) as file:
        file.write(_stacks(stacks))
    text = (
        f"error: a step of the environments did not return within task.step_timeout_s={timeout_s:g}, and kept"
        f" Python's lock; the stacks of all threads are in {path}; mend the environment, or allow it more"
        " time"
    )
    if (run_dir / "checkpoints" / "last").exists():
        text += f"; resume={run_dir} goes on from its last checkpoint"
    print(text.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    # Nothing in it can be asked to close anything.
    os.kill(parent, signal.SIGKILL)


def _sees_hang(parent: int, calls: int, timeout_s: float, *, period_s: float) -> bool:
    """Return True once a call has taken too long, False when the parent has ended."""
    seen = -1
    waited_s = 0.0
    while os.getppid() == parent:
        time.sleep(period_s)
        count = int.from_bytes(os.pread(calls, 8, 0), sys.byteorder)
        # An odd count is a call that is under way.
        if count != seen or count % 2 == 0:
            seen = count
            waited_s = 0.0
        elif not _is_stopped(parent):
            # Periods count, not a clock: this process may have been stopped, too.
            waited_s += period_s
        if waited_s >= timeout_s:
            return True
    return False


def _no_link(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=_no_link)`; fail if a link or a pipe has taken its place."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _is_stopped(pid: int) -> bool:
    """Tell whether a signal has stopped a process."""
    try:
        # The name before the state may hold blanks and parentheses.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state in ("T", "t")


def _stacks(file: int) -> bytes:
    """Return the stacks of the parent as far as it has written them."""
    end_s = time.monotonic() + _STACKS_WAIT_S
    size = -1
    while time.monotonic() < end_s and (size <= 0 or size != os.fstat(file).st_size):
        size = os.fstat(file).st_size
        time.sleep(0.1)
    return os.pread(file, 1 << 20, 0)


if __name__ == "__main__":
    main()
