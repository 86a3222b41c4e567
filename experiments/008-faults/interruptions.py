"""Faults of the kind: a process that is stopped, frozen or killed, and a console that goes away."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from promises import EQUAL, FINISHED, INTERRUPTED, Fault
from workshop import (
    FILES_ONLY,
    ITERATION,
    JOB,
    Seen,
    Workshop,
    difference,
    has_text,
    lost_checkpoint,
    newest_run,
    rows,
    wait_until,
    wrote,
)

LENGTH = 400
"""Iterations of the run that is interrupted; enough to be hit while it trains."""
MOMENTS = {
    "at start": lambda folder: lambda: True,
    "while loading": lambda folder: wrote(folder, "outputs/*/*/config.yaml"),
    "in training": lambda folder: wrote(folder, "outputs/*/*/checkpoints/last/state.json"),
    "while evaluating": lambda folder: lambda: has_text(folder / ".train.out", "evaluate"),
    "while exporting": lambda folder: wrote(folder, "outputs/*/*/export/*"),
}


def _send(folder: Path, moment: str, numbers: Sequence[int]) -> Callable[[subprocess.Popen[str]], None]:
    def meanwhile(process: subprocess.Popen[str]) -> None:
        wait_until(MOMENTS[moment](folder), process)
        for index, number in enumerate(numbers):
            time.sleep(0.3 * index)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    return meanwhile


def _stop(moment: str, numbers: Sequence[int], shop: Workshop, folder: Path) -> Seen:
    """Interrupt a run, and resume it where it left a checkpoint."""
    seen = shop.run(
        "train",
        *JOB,
        FILES_ONLY,
        f"total_steps={LENGTH * ITERATION}",
        folder=folder,
        meanwhile=_send(folder, moment, numbers),
    )
    if not list(folder.glob("outputs/**/checkpoints/last/state.json")):
        # Nothing was finished, so nothing can be lost. A signal before Python listens ends it as any program.
        ended = seen.status in (0, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT, -signal.SIGKILL)
        return dataclasses.replace(seen, status=130) if ended else seen
    run_dir = newest_run(folder)
    lost = lost_checkpoint(run_dir)
    if not lost and signal.SIGKILL not in numbers:
        missing = [name for name in ("summary.json", "report.html") if not (run_dir / name).exists()]
        lost = f"no {' and no '.join(missing)}" if missing and len(numbers) == 1 else ""
    if seen.status == 0:
        # It came when the last stage ran, and changed nothing.
        return dataclasses.replace(seen, lost=lost, status=130)
    return dataclasses.replace(seen, lost=lost, status=130 if seen.status == -signal.SIGKILL else seen.status)


def _stops() -> Iterator[Fault]:
    for moment in MOMENTS:
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"):
            number = getattr(signal, name)
            inject = partial(_stop, moment, [number])
            yield Fault(kind="signal", name=f"{name} {moment}", promise=INTERRUPTED, inject=inject)

    twice = partial(_stop, "in training", [signal.SIGINT, signal.SIGINT])
    yield Fault(kind="signal", name="SIGINT twice in training", promise=INTERRUPTED, inject=twice)


def _go_on(numbers: Sequence[int], shop: Workshop, folder: Path) -> Seen:
    """Send signals that must change nothing; compare with the undisturbed run."""
    name = f"{LENGTH} iterations"
    original = shop.original(name, FILES_ONLY, f"total_steps={LENGTH * ITERATION}")
    seen = shop.run(
        "train",
        *JOB,
        FILES_ONLY,
        f"total_steps={LENGTH * ITERATION}",
        folder=folder,
        meanwhile=_send(folder, "in training", numbers),
    )
    return dataclasses.replace(seen, lost=difference(newest_run(folder), original))


def _unharmed() -> Iterator[Fault]:
    checkpoint_now = partial(_go_on, [signal.SIGUSR1])
    freeze = partial(_go_on, [signal.SIGSTOP, signal.SIGCONT])
    yield Fault(kind="signal", name="SIGUSR1 in training", promise=EQUAL, inject=checkpoint_now)
    yield Fault(kind="signal", name="SIGSTOP, then SIGCONT", promise=EQUAL, inject=freeze)


def _kill_and_resume(delay_s: float, shop: Workshop, folder: Path) -> Seen:
    """Kill at a moment that the clock chooses, resume until it is done, and compare."""
    original = shop.original(f"{LENGTH} iterations", FILES_ONLY, f"total_steps={LENGTH * ITERATION}")

    def kill(process: subprocess.Popen[str]) -> None:
        wait_until(MOMENTS["in training"](folder), process)
        time.sleep(delay_s)
        process.kill()

    shop.run("train", *JOB, FILES_ONLY, f"total_steps={LENGTH * ITERATION}", folder=folder, meanwhile=kill)
    run_dir = newest_run(folder)
    seen = shop.run("train", f"resume={run_dir}", folder=folder)
    lost = difference(run_dir, original)
    if not lost and sorted(set(rows(run_dir))) != sorted(set(rows(original))):
        lost = "rows are missing"
    if not lost and len(rows(run_dir)) != len(rows(original)):
        lost = "rows are there twice"
    return dataclasses.replace(seen, lost=lost)


def _resumes() -> Iterator[Fault]:
    for delay_s in (0.0, 0.05, 0.2, 0.5, 0.9):
        name = f"SIGKILL {1000 * delay_s:.0f} ms after the first checkpoint, then resume"
        yield Fault(kind="signal", name=name, promise=EQUAL, inject=partial(_kill_and_resume, delay_s))


def _consoles() -> Iterator[Fault]:
    job = (*JOB, FILES_ONLY, f"total_steps={8 * ITERATION}")

    def whole(seen: Seen, folder: Path) -> Seen:
        run_dir = newest_run(folder)
        missing = [name for name in ("summary.json", "report.html") if not (run_dir / name).exists()]
        lost = lost_checkpoint(run_dir) or (f"no {' and no '.join(missing)}" if missing else "")
        # A console that is gone shows in the exit status of some shells and not in that of others.
        return dataclasses.replace(seen, lost=lost, status=0 if seen.status in (0, 1, 141) else seen.status)

    def full(shop: Workshop, folder: Path) -> Seen:
        descriptor = os.open("/dev/full", os.O_WRONLY)
        try:
            return whole(shop.run("train", *job, folder=folder, stdout=descriptor), folder)
        finally:
            os.close(descriptor)

    def broken_pipe(shop: Workshop, folder: Path) -> Seen:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            return whole(shop.run("train", *job, folder=folder, stdout=writing), folder)
        finally:
            os.close(writing)

    def closed(shop: Workshop, folder: Path) -> Seen:
        return whole(shop.run("train", *job, folder=folder, prepare=lambda: os.close(1)), folder)

    def narrow(shop: Workshop, folder: Path) -> Seen:
        below = folder / "Läufe µ"
        below.mkdir()
        variables = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
        return whole(shop.run("train", *job, folder=below, environment=variables), below)

    cases = {
        "full console": full,
        "broken pipe": broken_pipe,
        "closed stdout": closed,
        "stdout that cannot encode the path": narrow,
    }
    for name, inject in cases.items():
        yield Fault(kind="console", name=name, promise=FINISHED, inject=inject)


def faults() -> Iterator[Fault]:
    """Yield signals at every stage, kills with resumes, and consoles that go away."""
    yield from _stops()
    yield from _unharmed()
    yield from _resumes()
    yield from _consoles()
