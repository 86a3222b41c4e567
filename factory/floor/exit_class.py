"""Classes of outcomes, derived from the way a training ended."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from factory.floor import attempt_files
from factory.floor.lines import ExitClass
from factory.runtime import stored_files

_INTERRUPTED = 130
_HANG = "step_timeout_s"
"""Word in the last line of a training whose environment hung."""
_MAX_CAUSE = 300
_TAIL_BYTES = 4096


def classify(
    status: int, *, folder: Path, run_dir: Path, since: float, was_out_of_memory: bool
) -> dict[str, Any]:
    """Return exit class, status and root cause of an attempt that ended.

    Args:
        status: exit status; negative for the number of a signal.
        folder: folder of the attempt.
        run_dir: run folder of the training.
        since: start of the attempt, in seconds since 1970.
        was_out_of_memory: whether the kernel ended a process of the control group meanwhile.
    """
    cause = last_line(folder / "stderr")
    exit_class = ExitClass.CRASH
    if status == 0:
        exit_class = ExitClass.OK
        cause = ""
    # The status of all commands for a mistake of the user: trying again would not help.
    elif status == 2:
        exit_class = ExitClass.USER_ERROR
    elif status == _INTERRUPTED:
        exit_class, cause = _interrupted(attempt_files.read_reason(folder))
    elif status < 0 and _HANG in cause:
        # Only a kill ends native code that keeps Python's lock.
        exit_class = ExitClass.STALLED
    elif status < 0:
        exit_class, cause = _signalled(-status, was_out_of_memory=was_out_of_memory)
        if attempt_files.read_reason(folder) == "stalled":
            exit_class = ExitClass.STALLED
            cause = "no progress for a long time"
    # An older fault is that of an earlier attempt.
    elif _is_newer(run_dir / "fault", since):
        exit_class = ExitClass.DIVERGED
    # The rest is told from the last line of the error output.
    elif _HANG in cause:
        exit_class = ExitClass.STALLED
    elif "memory" in cause.lower():
        exit_class = ExitClass.OOM
    return {"exit_class": exit_class, "status": status, "root_cause": cause[:_MAX_CAUSE]}


def _interrupted(reason: str) -> tuple[ExitClass, str]:
    """Return class and cause of an end by SIGTERM or SIGINT; the status is the same for all of them."""
    if reason == "cancel":
        return ExitClass.KILLED, "cancelled by a user"
    if reason:
        return ExitClass.PREEMPTED, reason
    return ExitClass.KILLED, "interrupted from outside the floor"


def _signalled(number: int, *, was_out_of_memory: bool) -> tuple[ExitClass, str]:
    name = signal.Signals(number).name
    # The kernel ends a process with SIGKILL, as impatient users do; only the control group tells them apart.
    if number == signal.SIGKILL and was_out_of_memory:
        return ExitClass.OOM, "killed by the kernel: out of memory"
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        return ExitClass.KILLED, name
    return ExitClass.CRASH, name


def _is_newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False


def last_line(path: Path) -> str:
    """Return the last line of a file that is not empty, control characters spelled out."""
    try:
        text = stored_files.read_tail(path, limit=_TAIL_BYTES).decode(errors="replace")
    except ValueError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return stored_files.visible(lines[-1])
