"""Play a sweep without training: trials reach their rungs in any order, and the sweep may be interrupted."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from factory.floor.sweeps.trials import (
    Exploit,
    Promote,
    Start,
    Stop,
    Sweep,
    Trial,
    TrialAction,
    TrialState,
    Value,
)

Outcome = Callable[[Trial, int], Value]
"""Metrics of a trial at a rung."""


def carry_out(records: dict[int, Trial], action: TrialAction) -> None:
    """Write the effect of one action into the records, as the floor does."""
    if isinstance(action, Start):
        assert action.trial not in records, "started twice"
        records[action.trial] = Trial(id=action.trial, overrides=action.overrides)
    elif isinstance(action, Exploit):
        assert action.trial not in records, "started twice"
        records[action.trial] = Trial(
            id=action.trial,
            overrides=action.overrides,
            first_rung=action.first_rung,
            parent=action.source,
        )
    elif isinstance(action, Promote):
        assert records[action.trial].state == TrialState.PAUSED
        records[action.trial] = replace_state(records[action.trial], TrialState.RUNNING)
    elif isinstance(action, Stop):
        assert records[action.trial].state == TrialState.PAUSED
        records[action.trial] = replace_state(records[action.trial], TrialState.STOPPED)


def replace_state(trial: Trial, state: TrialState) -> Trial:
    """Return the trial in another state."""
    return dataclasses.replace(trial, state=state)


def play(
    make: Callable[[], Sweep],
    outcome: Outcome,
    *,
    order: random.Random,
    slots: int = 4,
    records: dict[int, Trial] | None = None,
    kill_after: int | None = None,
) -> tuple[dict[int, Trial], list[TrialAction]]:
    """Play a sweep to its end, or until a kill, and return the records and all actions.

    A new sweep is made for every decision: it can only know what the records say.

    Args:
        make: makes the sweep.
        outcome: metrics of a trial at a rung.
        order: chooses which of the running trials reaches its rung next.
        slots: trials that train at once; the others wait.
        records: records to go on from.
        kill_after: actions after which the process dies; the rest of its batch is not carried out.
    """
    known = dict(records or {})
    done: list[TrialAction] = []
    while True:
        sweep = make()
        shuffled = list(known.values())
        order.shuffle(shuffled)
        for action in sweep.propose(shuffled):
            if kill_after is not None and len(done) == kill_after:
                return known, done
            carry_out(known, action)
            done.append(action)
        running = sorted(number for number, trial in known.items() if trial.state == TrialState.RUNNING)
        if not running:
            return known, done
        number = order.choice(running[:slots])
        trial = known[number]
        value = outcome(trial, trial.next_rung)
        if value is None:
            known[number] = trial.after_failure()
        else:
            steps = sweep.rungs[trial.next_rung]
            known[number] = trial.after_rung(value, steps=steps, num_rungs=len(sweep.rungs))


def decisions(actions: Sequence[TrialAction]) -> set[TrialAction]:
    """Return the actions without their order."""
    assert len(set(actions)) == len(actions), "decided twice"
    return set(actions)
