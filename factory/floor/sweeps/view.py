"""Sweeps for people and programs: trials, their rungs, and the best so far."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from factory import metric_keys
from factory.floor.status_view import plain_text, terminal
from factory.floor.store import Store
from factory.floor.sweeps import table
from factory.floor.sweeps.ranking import score
from factory.floor.sweeps.table import StoredSweep
from factory.floor.sweeps.trials import Trial
from factory.runtime.stored_files import visible


def plain(store: Store, sweep: StoredSweep) -> dict[str, Any]:
    """Return a sweep as plain values."""
    known = table.trials(store, sweep)
    trials = [entry.trial for entry in known.values()]
    leaders = best(trials, signs=sweep.plan.signs)
    state = "running"
    if table.is_cancelled(store, sweep.id):
        state = "cancelled"
    elif all(trial.state.is_final for trial in trials):
        state = "ended"
    return {
        "id": sweep.id,
        "method": sweep.plan.method,
        "state": state,
        "metric": list(sweep.plan.metric),
        "rungs": list(sweep.plan.rungs),
        "env_steps": sum(trial.steps for trial in trials),
        "best": [trial.id for trial in leaders],
        "trials": [_plain_trial(store, entry.trial, entry.line) for entry in known.values()],
    }


def _plain_trial(store: Store, trial: Trial, number: int) -> dict[str, Any]:
    line = store.line(number)
    return {
        "id": trial.id,
        "line": number,
        "line_state": line.state.value,
        "run_dir": line.run_dir,
        "state": trial.state.value,
        "overrides": list(trial.overrides),
        "env_steps": max(trial.steps, line.steps),
        "first_rung": trial.first_rung,
        "values": [None if value is None else list(value) for value in trial.values],
        "parent": trial.parent,
        "joules": line.joules,
    }


def best(trials: list[Trial], *, signs: tuple[int, ...]) -> list[Trial]:
    """Return the best trial of those that came farthest; with several metrics, those that none beats."""
    reached = [trial for trial in trials if any(value is not None for value in trial.values)]
    if not reached:
        return []
    if len(signs) == 1:
        # Metrics at different rungs do not compare: only trials that came equally far do.
        farthest = max(_last_rung(trial) for trial in reached)
        there = [trial for trial in reached if _last_rung(trial) == farthest]
        return [max(there, key=lambda trial: (score(trial.value_at(farthest), sign=signs[0]), -trial.id))]
    scores = {
        trial: tuple(sign * number for sign, number in zip(signs, trial.values[-1] or (), strict=True))
        for trial in reached
        if trial.values[-1] is not None
    }
    return [
        # Pareto front: no other trial is at least as good in every metric.
        trial
        for trial, own in scores.items()
        if not any(other != own and all(map(float.__ge__, other, own)) for other in scores.values())
    ]


def _last_rung(trial: Trial) -> int:
    """Return the last rung at which a trial has metrics."""
    found = [index for index, value in enumerate(trial.values) if value is not None]
    return trial.first_rung + found[-1]


def show(store: Store, sweep: StoredSweep) -> None:
    """Print a sweep as a table."""
    state = plain(store, sweep)
    metrics = ", ".join(metric_keys.metric(key).label for key in state["metric"])
    title = (
        f"sweep {sweep.id}  {state['method']}  {state['state']}  {metrics}"
        f"  {state['env_steps']:,} environment steps"
    )
    shown = Table(title=plain_text(title), title_justify="left", box=None, pad_edge=False)
    for column in ("trial", "line", "state", "settings"):
        shown.add_column(column, overflow="fold")
    for steps in state["rungs"]:
        shown.add_column(f"at {steps:,}", justify="right")
    shown.add_column("parent")
    for trial in state["trials"]:
        name = str(trial["id"])
        if trial["id"] in state["best"]:
            name += " *"
        cells = [""] * trial["first_rung"] + [_cell(value) for value in trial["values"]]
        cells += [""] * (len(state["rungs"]) - len(cells))
        parent = "" if trial["parent"] is None else str(trial["parent"])
        settings = " ".join(_short(override) for override in trial["overrides"])
        shown.add_row(name, str(trial["line"]), trial["state"], plain_text(settings), *cells, parent)
    terminal().print(shown)
    for number in state["best"]:
        leader = next(trial for trial in state["trials"] if trial["id"] == number)
        text = f"best so far: trial {number}, {' '.join(leader['overrides'])}, {leader['run_dir']}"
        print(visible(text))


def summary(state: dict[str, Any]) -> str:
    """Return one line about a sweep, from `plain`."""
    known = {trial["id"]: " ".join(trial["overrides"]) for trial in state["trials"]}
    leaders = "; ".join(known[number] for number in state["best"])
    return visible(
        f"sweep {state['id']} ({state['method']}): {state['state']}, {len(known)} trials,"
        f" {state['env_steps']:,} environment steps; best so far: {leaders or 'none'}"
    )


def _short(override: str) -> str:
    """Return `learning_rate=0.001` for `learner.learning_rate=0.001`."""
    key, equals, value = override.partition("=")
    return f"{key.rpartition('.')[2]}{equals}{value}"


def _cell(value: list[float] | None) -> str:
    if value is None:
        return "none"
    return " ".join(f"{number:.4g}" for number in value)
