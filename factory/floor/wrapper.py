"""Run one attempt and write its outcome: `python -m factory.floor.wrapper <attempt folder>`.

The wrapper leads a session of its own, so that it and the training outlive floor and engine, and can be
paused and ended together. It waits for the training and writes `exit.json`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from factory.energy.cgroup import Cgroup
from factory.floor import attempt_files
from factory.floor.attempt_files import CUDA_DEVICES, Outcome, Spec
from factory.floor.exit_class import classify

_PR_SET_PDEATHSIG = 1
_LOOK_S = 2.0
"""Time between two looks for `lost.json`."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def run(folder: Path) -> Outcome | None:
    """Run the attempt in `folder` to its end.

    Returns:
        The outcome, which is on the disk; None if the attempt was started before.

    Raises:
        ValueError: there is no order in the folder.
    """
    spec = attempt_files.read_spec(folder)
    pending: list[int] = []
    child: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if not child:
            pending.append(number)
            return
        # It may have ended a moment ago.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child[0], number)

    def look(number: int, frame: FrameType | None) -> None:
        # The next attempt writes to the same run folder.
        if attempt_files.is_lost(folder):
            os.killpg(0, signal.SIGKILL)

    # A signal that arrives before the training does is passed on as soon as there is one.
    for number in _FORWARDED:
        signal.signal(number, forward)
    if not attempt_files.claim(folder, devices=_devices(spec)):
        return None
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)
    started_at = time.time()
    cgroup = Cgroup()
    kills_before = cgroup.memory_kills()
    process = _start(spec, folder)
    # From here on signals go straight to the training.
    child.append(process.pid)
    for early in pending:
        forward(early, None)
    # Not `process.wait()`: the usage of exactly this process and its children is wanted.
    _, status, usage = os.wait4(process.pid, 0)
    outcome = Outcome(
        **classify(
            os.waitstatus_to_exitcode(status),
            folder=folder,
            run_dir=Path(spec.run_dir),
            since=started_at,
            was_out_of_memory=cgroup.memory_kills() > kills_before,
        ),
        started_at=started_at,
        ended_at=time.time(),
        cpu_s=usage.ru_utime + usage.ru_stime,
        # Linux counts in KiB.
        peak_memory_bytes=usage.ru_maxrss * 1024,
    )
    if attempt_files.read_reason(folder) == "cancel":
        _report(Path(spec.run_dir))
    attempt_files.write_outcome(folder, outcome)
    return outcome


def _devices(spec: Spec) -> str:
    """Return the GPUs of the training, as in `CUDA_VISIBLE_DEVICES`; none if it needs none."""
    if not spec.gpus:
        return ""
    # The floor names them in the order; Ray sets them in the environment.
    return (os.environ | spec.environment).get(CUDA_DEVICES, "")


def _report(run_dir: Path) -> None:
    """Write the report of a run that was interrupted for good, if it left anything."""
    # Imported here: other attempts end without it.
    from factory.reporting.report import write_report

    with contextlib.suppress(OSError, ValueError):
        write_report(run_dir)


def _start(spec: Spec, folder: Path) -> subprocess.Popen[bytes]:
    """Start the training; its output is appended to files, which nobody has to read."""

    def prepare() -> None:
        # Without its wrapper a training would go on unseen, and its outcome would be lost.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if spec.cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, spec.cpus)
        if spec.niceness:
            os.nice(spec.niceness)

    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        return subprocess.Popen(
            spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=spec.cwd,
            env={**os.environ, **spec.environment},
            preexec_fn=prepare,
        )


def main() -> None:
    """Run the attempt that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m factory.floor.wrapper <attempt folder>")
    run(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
