"""Carry out sweeps on the floor: trials are lines, and a line that finished has reached its rung.

What became of the lines, what follows from it, and the new lines are written in one transaction. So after a
power loss nothing is decided twice, and nothing that was decided is missing.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from factory.cli import spelling
from factory.floor.lines import TRANSITIONS, Line, LineState
from factory.floor.store import Store
from factory.floor.sweeps import methods, table
from factory.floor.sweeps.table import StoredSweep, StoredTrial
from factory.floor.sweeps.trials import Exploit, Promote, Start, Stop, Trial, TrialAction, TrialState, Value
from factory.runtime import stored_files
from factory.runtime.decoding import MismatchError


def advance(store: Store, sweeps: Sequence[StoredSweep]) -> None:
    """Take note of the lines of sweeps that ended, and do what follows.

    Raises:
        StoreError: the store could not be written; nothing was decided.
        OSError: a checkpoint could not be copied; nothing was decided.
    """
    for sweep in sweeps:
        with store.transaction():
            _advance(store, sweep)


def cancel(store: Store, sweep: StoredSweep) -> list[int]:
    """End a sweep: nothing follows from it any more, and the lines that are returned are to be cancelled.

    Raises:
        ValueError: it has ended.
    """
    known = table.trials(store, sweep)
    open_trials = [entry for entry in known.values() if not entry.trial.state.is_final]
    if not open_trials:
        raise ValueError(f"sweep {sweep.id}: ended already; there is nothing to cancel")
    with store.transaction():
        table.mark_cancelled(store, sweep.id)
        for entry in open_trials:
            # No process belongs to it. The others end as lines do, with a checkpoint.
            if entry.trial.state is TrialState.PAUSED:
                table.put_trial(store, sweep.id, replace(entry.trial, state=TrialState.STOPPED), entry.line)
            elif not store.line(entry.line).state.is_final:
                store.add_command("cancel", line=entry.line)
    return [entry.line for entry in open_trials if entry.trial.state is TrialState.RUNNING]


def _advance(store: Store, sweep: StoredSweep) -> None:
    # Outcomes first, as decisions follow from them alone.
    for entry in table.trials(store, sweep).values():
        _take_note(store, sweep, entry)
    if table.is_cancelled(store, sweep.id):
        return
    known = table.trials(store, sweep)
    method = methods.make(sweep.plan)
    for action in method.propose([entry.trial for entry in known.values()]):
        _carry_out(store, sweep, known, action)


def _take_note(store: Store, sweep: StoredSweep, entry: StoredTrial) -> None:
    """Write down the outcome of a trial whose line has ended since."""
    line = store.line(entry.line)
    if entry.trial.state is not TrialState.RUNNING or not line.state.is_final:
        return
    if line.state is LineState.FINISHED:
        value = read_value(Path(line.run_dir), sweep.plan.metric)
        trial = entry.trial.after_rung(value, steps=line.steps, num_rungs=len(sweep.plan.rungs))
    elif line.state is LineState.CANCELLED:
        trial = entry.trial.after_failure(TrialState.STOPPED)
    else:
        trial = entry.trial.after_failure()
    table.put_trial(store, sweep.id, trial, line.id)


def read_value(run_dir: Path, metric: Sequence[str]) -> Value:
    """Return metrics of a run's summary; None if one is missing or not finite."""
    try:
        found = stored_files.read_json(run_dir / "summary.json")["metrics"]
        values = tuple(float(found[key]) for key in metric)
    except (ValueError, LookupError, TypeError):
        return None
    if not all(map(math.isfinite, values)):
        return None
    return values


def _carry_out(
    store: Store, sweep: StoredSweep, known: Mapping[int, StoredTrial], action: TrialAction
) -> None:
    match action:
        case Start():
            line = _add_line(store, sweep, action, action.overrides)
            table.put_trial(store, sweep.id, Trial(id=action.trial, overrides=action.overrides), line.id)
        case Exploit():
            _exploit(store, sweep, known, action)
        case Promote():
            _promote(store, sweep, known[action.trial], action)
        case Stop():
            entry = known[action.trial]
            table.put_trial(store, sweep.id, replace(entry.trial, state=TrialState.STOPPED), entry.line)
            store.update(entry.line, reason=action.reason)
            details = {"sweep": sweep.id, "trial": action.trial, "reason": action.reason}
            store.record("trial stopped", line=entry.line, details=details)


def _promote(store: Store, sweep: StoredSweep, entry: StoredTrial, action: Promote) -> None:
    """Queue a trial's line again, to end at a later rung."""
    line = store.line(entry.line)
    with store.reading():
        if LineState.QUEUED not in TRANSITIONS[line.state]:
            raise MismatchError(f"trial {action.trial} of sweep {sweep.id}: its line is {line.state}")
    # The run folder stays, so the training resumes from the checkpoint of its last rung.
    kept = [override for override in line.overrides if not override.startswith("stop_at_steps=")]
    store.move(
        line,
        LineState.QUEUED,
        f"promoted at {line.steps} environment steps",
        overrides=(*kept, f"stop_at_steps={action.stop_at_steps}"),
        total_steps=action.stop_at_steps,
        exit_class=None,
    )
    table.put_trial(store, sweep.id, replace(entry.trial, state=TrialState.RUNNING), entry.line)


def _exploit(store: Store, sweep: StoredSweep, known: Mapping[int, StoredTrial], action: Exploit) -> None:
    """Start a trial from a copy of another one's checkpoint."""
    source = store.line(known[action.source].line)
    folder = store.root.absolute() / "sweeps" / str(sweep.id) / str(action.trial)
    copy_checkpoint(Path(source.run_dir), folder)
    # Its training begins at step 0, and ends where the others do.
    total_steps = sweep.plan.total_steps - sweep.plan.rungs[action.first_rung - 1]
    origin = (f"total_steps={total_steps}", f"start_from={spelling.quoted(folder)}")
    line = _add_line(store, sweep, action, (*action.overrides, *origin))
    trial = Trial(
        id=action.trial,
        overrides=action.overrides,
        first_rung=action.first_rung,
        parent=action.source,
    )
    table.put_trial(store, sweep.id, trial, line.id)
    details = {"sweep": sweep.id, "trial": trial.id, "source": source.id, "checkpoint": str(folder)}
    store.record("exploit", line=line.id, details=details)


def copy_checkpoint(run_dir: Path, folder: Path) -> None:
    """Copy the newest checkpoint of a run, so that it stays when the run goes on.

    A copy that is there was made before a power loss and is kept.

    Raises:
        OSError: it could not be copied.
    """
    if folder.exists():
        return
    newest = (run_dir / "checkpoints" / "last").resolve(strict=True)
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(newest, unfinished / "checkpoints" / newest.name)
    (unfinished / "checkpoints" / "last").symlink_to(newest.name)
    unfinished.rename(folder)


def _add_line(store: Store, sweep: StoredSweep, action: Start | Exploit, overrides: tuple[str, ...]) -> Line:
    """Queue the line of a new trial."""
    template = sweep.template
    given = {override.partition("=")[0] for override in overrides}
    kept = tuple(override for override in template.overrides if override.partition("=")[0] not in given)
    content = json.dumps([template.spec_hash, sweep.id, action.trial])
    line = replace(
        template,
        name=f"{template.name} sweep {sweep.id} trial {action.trial}",
        overrides=(*kept, *overrides, f"stop_at_steps={action.stop_at_steps}"),
        # No line is equal to that of a trial, which the sweep moves on.
        spec_hash=hashlib.sha256(content.encode()).hexdigest(),
        total_steps=action.stop_at_steps,
    )
    return store.add_line(line)
