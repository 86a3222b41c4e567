"""The way of an attempt: its start, its end, and what follows for the line.

A line resumes from its last checkpoint. Without one it starts again, and the folder of the run before is
kept beside the attempt that made it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.floor import attempt_files, progress
from factory.floor.attempt_files import Outcome, Spec
from factory.floor.engines.base import Engine
from factory.floor.lines import Attempt, ExitClass, Line, LineState
from factory.floor.store import Store
from factory.runtime.provenance import FLOOR_VARIABLES
from factory.training import run_lock
from factory.training.stored_config import TRAINING

MOST_FAILURES: dict[ExitClass, int] = {
    ExitClass.CRASH: 3,
    ExitClass.OOM: 3,
    ExitClass.STALLED: 3,
    # A training repeats its bits, so it diverges again; once more in case a machine was at fault.
    ExitClass.DIVERGED: 2,
    ExitClass.KILLED: 10,
    ExitClass.LOST: 10,
}
"""Attempts in a row without progress, by the same root cause, after which the line has failed."""
_FIRST_DELAY_S = {ExitClass.KILLED: 1.0, ExitClass.LOST: 1.0}
_OTHER_DELAY_S = 10.0
_LONGEST_DELAY_S = 1800.0


RESTARTED = "restarted by the operator"
"""Root cause of attempts that were killed so that they resume from their checkpoint."""
_ENDED_BY_THE_FLOOR = {
    "stalled": (ExitClass.STALLED, "no progress for a long time"),
    "restart": (ExitClass.KILLED, RESTARTED),
}
"""Outcome of attempts whose processes were all killed, by the reason that was written before."""


def start(
    store: Store,
    engine: Engine,
    line: Line,
    *,
    reason: str,
    cpus: Sequence[int],
    gpus: Sequence[str],
    profile: str,
) -> Line:
    """Start the next attempt of a queued line.

    Args:
        store: the floor's store.
        engine: where it runs.
        line: the line.
        reason: sentence that explains the start.
        cpus: CPUs to bind it to; empty: all.
        gpus: GPUs to give it, by UUID; empty: the engine's choice.
        profile: power profile of lines that name none; empty for the default.

    Raises:
        OSError: its folder could not be made, or its process not be started.
    """
    number = line.attempts + 1
    folder = store.root.absolute() / "lines" / str(line.id) / str(number)
    run_dir = Path(line.run_dir)
    kept = progress.kept_steps(run_dir)
    attempt = Attempt(
        line=line.id, number=number, folder=str(folder), handle=None, started_at=time.time(), steps_from=kept
    )
    with store.transaction():
        line = store.move(line, LineState.STARTING, reason, attempts=number, steps=kept)
        store.add_attempt(attempt)
    # From here on a floor that is started again finds the attempt, whether its process came to be or not.
    folder.mkdir(parents=True)
    if not kept and run_dir.exists():
        # A run without a checkpoint cannot be resumed; a new one needs a folder of its own.
        shutil.move(run_dir, folder / "abandoned")
    argv = [sys.executable, "-m", "factory.train", *arguments(line, store.root, kept=kept)]
    if profile and not any(override.startswith("profile") for override in line.overrides):
        argv.append(f"profile={profile}")
    attempt_files.write_spec(
        folder,
        Spec(
            line=line.id,
            attempt=number,
            argv=argv,
            run_dir=line.run_dir,
            cwd=line.cwd,
            cpus=list(cpus),
            gpus=line.needs.gpus,
            environment=_environment(store.floor_id, line, gpus),
        ),
    )
    engine.start(folder, line.needs)
    return line


def _environment(floor_id: str, line: Line, gpus: Sequence[str]) -> dict[str, str]:
    """Return the variables of an attempt: names for the tracker, its GPUs, and threads that do not spin."""
    names = {"floor.id": floor_id, "floor.line": str(line.id), "floor.attempt": str(line.attempts)}
    tags = {FLOOR_VARIABLES[tag]: value for tag, value in names.items()}
    devices: dict[str, str] = {}
    if gpus:
        devices[attempt_files.CUDA_DEVICES] = ",".join(gpus)
    # A thread that spins keeps a core from the other lines.
    return tags | devices | {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}


def arguments(line: Line, root: Path, *, kept: int) -> list[str]:
    """Return the arguments of `factory.train` for the next attempt of a line.

    A resumed run has its configuration. Only what a run folder may not decide by itself is named again.
    """
    common = [f"output_root={root.absolute()}"]
    if not kept:
        # A line meters its own processes, the floor the node. It comes first, so that a user's value counts.
        return ["energy.scope=process", *line.overrides, *common, f"hydra.run.dir={line.run_dir}"]
    # A promoted trial of a sweep ends later than its run was told to.
    named = {rule.key for rule in TRAINING} | {"plugins", "stop_at_steps"}
    again = [override for override in line.overrides if override.partition("=")[0] in named]
    return [*again, *common, f"resume={line.run_dir}"]


def settle(store: Store, line: Line, attempt: Attempt, outcome: Outcome | None, *, joules: float) -> Line:
    """Write down the end of an attempt, and move its line on.

    Args:
        store: the floor's store.
        line: the line, active or lost.
        attempt: its newest attempt, without a living process.
        outcome: what the wrapper wrote; None if it could not.
        joules: energy of the attempt [J].
    """
    run_dir = Path(line.run_dir)
    if outcome is None:
        # Its host may be out of reach only.
        attempt_files.declare_lost(Path(attempt.folder))
        if attempt.handle is not None:
            run_lock.release_lost(run_dir, host=attempt.handle.host)
        outcome = _lost(line, attempt)
    kept = progress.kept_steps(run_dir)
    ended = replace(
        attempt,
        ended_at=outcome.ended_at,
        exit_class=outcome.exit_class,
        root_cause=outcome.root_cause,
        steps_to=kept,
        joules=joules,
        cpu_s=outcome.cpu_s,
    )
    # Written in one transaction: a floor that dies before it settles the attempt again from the start.
    state, reason, changes = _next(line, ended, store)
    with store.transaction():
        store.update_attempt(ended)
        return store.move(line, state, reason, exit_class=outcome.exit_class, steps=kept, **changes)


def _lost(line: Line, attempt: Attempt) -> Outcome:
    """Return the outcome of an attempt whose wrapper wrote none: machine or wrapper were killed."""
    run_dir = Path(line.run_dir)
    # A summary without the last steps is from before the line was promoted.
    is_there = progress.kept_steps(run_dir) >= line.total_steps
    is_finished = is_there and progress.summary_status(run_dir) == "finished"
    now = time.time()
    exit_class = ExitClass.LOST
    root_cause = "its processes vanished and left no outcome"
    reason = attempt_files.read_reason(Path(attempt.folder))
    if is_finished:
        exit_class = ExitClass.OK
        root_cause = ""
    elif reason in _ENDED_BY_THE_FLOOR:
        exit_class, root_cause = _ENDED_BY_THE_FLOOR[reason]
    return Outcome(
        exit_class=exit_class,
        status=0 if is_finished else -1,
        root_cause=root_cause,
        started_at=attempt.started_at,
        ended_at=now,
        cpu_s=0.0,
        peak_memory_bytes=0,
    )


def _next(line: Line, attempt: Attempt, store: Store) -> tuple[LineState, str, dict[str, Any]]:
    """Return the next state of a line, the sentence that explains it, and what else changes."""
    exit_class = attempt.exit_class
    assert exit_class is not None
    if exit_class is ExitClass.OK:
        return LineState.FINISHED, f"finished in attempt {attempt.number}", {"failures": 0}
    # After `OK`: a training that finished while it was cancelled has finished.
    if attempt_files.read_reason(Path(attempt.folder)) == "cancel":
        return LineState.CANCELLED, line.reason, {}
    if exit_class is ExitClass.PREEMPTED:
        return LineState.QUEUED, f"pre-empted at {attempt.steps_to} environment steps", {}
    if exit_class is ExitClass.USER_ERROR:
        return LineState.FAILED, attempt.root_cause, {"root_cause": attempt.root_cause}

    # Only a cause that comes back without any progress in between is held against the line.
    failures = 1
    is_stuck = (attempt.steps_to or 0) <= attempt.steps_from and line.root_cause == attempt.root_cause
    if is_stuck:
        failures = line.failures + 1
    changes = {"failures": failures, "root_cause": attempt.root_cause}
    cause = f"{exit_class}: {attempt.root_cause}"
    if failures >= MOST_FAILURES[exit_class]:
        return LineState.FAILED, f"{cause}; {failures} attempts without progress", changes
    # A fault of the machine, such as a full memory, often passes.
    delay_s = retry_delay_s(exit_class, failures)
    changes["not_before"] = time.time() + delay_s
    return LineState.QUEUED, f"{cause}; again in {delay_s:.0f} s", changes


def retry_delay_s(exit_class: ExitClass, failures: int) -> float:
    """Return the waiting time before the attempt that follows a failed one [s], twice as long each time."""
    first = _FIRST_DELAY_S.get(exit_class, _OTHER_DELAY_S)
    return min(_LONGEST_DELAY_S, first * 2.0 ** (failures - 1))
